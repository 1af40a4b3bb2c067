/**
 * The simulation's core: the world and the one way by which something happens in it.
 *
 * `dispatch` serialises a payload once, hands it to the sessions concerned and enters it in the
 * ledger. Everything that makes dispatches (traffic, REST, control) goes through it; everything else
 * hangs off this object so that the other files need no globals.
 */
import { CommandRegistry } from "./commands.js";
import { Counters } from "./counters.js";
import { IdentifyBudget } from "./identify-budget.js";
import { carriesContent, requiredIntents } from "./intents.js";
import { InteractionBook } from "./interaction-book.js";
import { Ledger } from "./ledger.js";
import { MessageStore } from "./message-store.js";
import type { ResolvedOptions } from "./options.js";
import { Sessions } from "./sessions.js";
import { freshId } from "./snowflake.js";
import { World } from "./world.js";
import { WorldEvent } from "./world-event.js";

/** In place of a guild index: direct messages, which go to shard 0. */
export const DIRECT_MESSAGES = -1;

/** The ledger's key of dispatches without a guild. */
const DM_KEY = "dm";

/** Fields that a bot without the message content intent gets empty. */
const NO_CONTENT = { content: "", embeds: [], attachments: [], components: [] };

export class Simulation {
  readonly world: World;
  readonly ledger = new Ledger();
  readonly counters = new Counters();
  readonly sessions: Sessions;
  readonly identifyBudget: IdentifyBudget;
  readonly commands: CommandRegistry;
  readonly interactions: InteractionBook;
  readonly messages = new MessageStore();

  constructor(readonly options: ResolvedOptions) {
    this.world = new World(options);
    this.interactions = new InteractionBook(options);
    this.commands = new CommandRegistry(options.applicationId);
    this.sessions = new Sessions(this.ledger, options.sessionTtlMs, (event) => {
      if (event.t === "INTERACTION_CREATE") this.interactions.void(event.id);
    });
    this.identifyBudget = new IdentifyBudget(options);
  }

  /** Whether a session of the guild's shard is there: without one nothing happens in the guild. */
  isHeard(guild: number): boolean {
    return this.sessions.audience(this.world.sinceEpochMs(guild), 0).length > 0;
  }

  /**
   * Makes something happen: sends a dispatch to every session concerned and counts it once.
   *
   * @param guild index in the world, or DIRECT_MESSAGES
   * @returns false, and nothing is counted, if no session is there to get it.
   */
  dispatch(guild: number, t: string, payload: object): boolean {
    const audience = this.#audience(guild, t);
    if (audience.length === 0) return false;
    const full = JSON.stringify(payload);
    let bare = full;
    if (carriesContent(t) && !this.#showsContent(guild, payload) && audience.some((s) => s.lacksContent)) {
      bare = JSON.stringify({ ...payload, ...NO_CONTENT });
    }
    const key = guild === DIRECT_MESSAGES ? DM_KEY : this.world.guildId(guild);
    const id = "id" in payload && typeof payload.id === "string" ? payload.id : freshId();
    const event = new WorldEvent(t, key, id, full, bare);
    this.ledger.add(event);
    for (const session of audience) session.push(event);
    return true;
  }

  /** The bot leaves or joins a guild, or an outage begins or ends, with the dispatch that tells so. */
  setGuildStatus(guild: number, status: "joined" | "left" | "outage"): boolean {
    this.world.setStatus(guild, status);
    if (status === "joined") return this.dispatch(guild, "GUILD_CREATE", this.world.guildCreate(guild));
    const id = this.world.guildId(guild);
    return this.dispatch(guild, "GUILD_DELETE", status === "left" ? { id } : { id, unavailable: true });
  }

  /** Whether the guild's upper id bits put it on this shard. */
  isOnShard(guild: number, shard: readonly [number, number]): boolean {
    return this.world.sinceEpochMs(guild) % shard[1] === shard[0];
  }

  #audience(guild: number, t: string) {
    const direct = guild === DIRECT_MESSAGES;
    return this.sessions.audience(direct ? 0 : this.world.sinceEpochMs(guild), requiredIntents(t, direct));
  }

  /** Direct messages, the bot's own and those that mention it are never blanked. */
  #showsContent(guild: number, payload: object): boolean {
    if (guild === DIRECT_MESSAGES) return true;
    const message = payload as { author?: { id: string }; mentions?: { id: string }[] };
    const bot = this.options.applicationId;
    return message.author?.id === bot || (message.mentions?.some((user) => user.id === bot) ?? false);
  }
}
