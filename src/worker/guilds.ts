/**
 * Owns the table of guilds in memory: routes dispatches to them, lets clean idle ones leave, bounds appends in flight.
 *
 * Invariants:
 * - A guild leaves memory only when it is clean (saved by enough database nodes) and quiet.
 * - Dispatches of one guild reach it in the order of the ring.
 *
 * If the process dies, this table is gone; the log and the checkpoint rebuild it. Called by the shards.
 */
import type { DispatchName } from "../core/bot.js";
import { messageOf } from "../core/errors.js";
import type { Effect } from "../core/event.js";
import { limits } from "../core/limits.js";
import { objectIdOf } from "../discord/dispatch.js";
import { Guild } from "./guild.js";
import type { SavedTracker } from "./saved.js";
import type { GuildServices } from "./services.js";
import type { Work } from "./work.js";

/** Memory of a guild beside its state's text: the object, the map's slot, the state's own objects. */
const guildOverheadBytes = 1_500;
const stateMemoryFactor = 3;

export class Guilds {
  readonly #guilds = new Map<string, Guild>();
  readonly #services: GuildServices;
  readonly #saved: SavedTracker;
  readonly #memoryBytes: number;
  readonly #waitingForRoom = new Set<Guild>();
  readonly #timer: NodeJS.Timeout;
  #usedBytes = 0;

  constructor(
    services: Omit<GuildServices, "mayAppend" | "abandon">,
    saved: SavedTracker,
    memoryBytes: number,
  ) {
    this.#services = {
      ...services,
      mayAppend: (guild) => this.#mayAppend(guild),
      abandon: (guild) => this.#forget(guild),
      appended: (guildId, seq) => {
        services.appended(guildId, seq);
        this.#roomMade();
      },
    };
    this.#saved = saved;
    this.#memoryBytes = memoryBytes;
    this.#timer = setInterval(() => this.evict(), limits.evictIntervalMs);
  }

  get size(): number {
    return this.#guilds.size;
  }

  /** Whether every guild has nothing left to do. */
  get isQuiet(): boolean {
    for (const guild of this.#guilds.values()) if (!guild.isQuiet) return false;
    return true;
  }

  handle(work: Work): void {
    if (!this.#services.handlers.wants(work.payload.t as DispatchName, work.guildId !== undefined)) {
      work.complete();
      return;
    }
    if (work.guildId === undefined) {
      this.#handleDirect(work);
      return;
    }
    (this.#guilds.get(work.guildId) ?? this.#open(work.guildId)).handle(work);
  }

  /** How full memory is, as of the last look at it: 1 is the budget. */
  get usedShare(): number {
    return this.#usedBytes / this.#memoryBytes;
  }

  /** Loads a guild that has no dispatch yet; false when it is here already. */
  warm(guildId: string): boolean {
    if (this.#guilds.has(guildId)) return false;
    this.#open(guildId).lastUsedAt = this.#services.now();
    return true;
  }

  /** The stream ends below what we hold: put back what only memory has now. */
  repairAbove(lastSeq: number): void {
    for (const guild of this.#guilds.values()) if (guild.seq > lastSeq) guild.repair();
  }

  /** Drops the guilds of a shard that another worker serves now. */
  dropWhere(isGone: (guildId: string) => boolean): void {
    for (const guild of [...this.#guilds.values()]) if (isGone(guild.id)) this.#forget(guild);
  }

  /** Empties the table: for the end of the process. */
  stop(): void {
    clearInterval(this.#timer);
    this.dropWhere(() => true);
  }

  /** Clean idle guilds leave; under memory pressure clean ones do, the longest unused first. */
  evict(): void {
    const now = this.#services.now();
    let bytes = 0;
    for (const guild of [...this.#guilds.values()]) {
      const idle = now - guild.lastUsedAt > limits.guildIdleMs;
      if (idle && this.#mayLeave(guild)) this.#forget(guild);
      else bytes += guildOverheadBytes + guild.stateBytes * stateMemoryFactor;
    }
    this.#usedBytes = bytes;
    if (bytes <= this.#memoryBytes) return;
    const oldestFirst = [...this.#guilds.values()].sort((a, b) => a.lastUsedAt - b.lastUsedAt);
    for (const guild of oldestFirst) {
      if (bytes <= this.#memoryBytes) return;
      if (!this.#mayLeave(guild)) continue;
      bytes -= guildOverheadBytes + guild.stateBytes * stateMemoryFactor;
      this.#forget(guild);
    }
  }

  /** A server that dies may lose what it has not flushed; what memory holds a little longer can be put back. */
  #mayLeave(guild: Guild): boolean {
    const idleMs = this.#services.now() - guild.lastUsedAt;
    return guild.isQuiet && !this.#saved.isDirty(guild.id) && idleMs >= limits.guildEvictMinIdleMs;
  }

  #open(guildId: string): Guild {
    const guild = new Guild(guildId, this.#services);
    this.#guilds.set(guildId, guild);
    guild.load();
    return guild;
  }

  #forget(guild: Guild): void {
    guild.drop();
    this.#waitingForRoom.delete(guild);
    this.#guilds.delete(guild.id);
  }

  #mayAppend(guild: Guild): boolean {
    if (this.#services.guildLog.inFlight < limits.appendsInFlightMax) return true;
    this.#waitingForRoom.add(guild);
    return false;
  }

  #roomMade(): void {
    for (const guild of this.#waitingForRoom) {
      if (this.#services.guildLog.inFlight >= limits.appendsInFlightMax) return;
      this.#waitingForRoom.delete(guild);
      guild.flushNow();
    }
  }

  #handleDirect(work: Work): void {
    const effects: Effect[] = [];
    const finish = (): void => {
      this.#services.counters.handled += 1;
      void this.#services.send(effects, work.payload.t).finally(() => work.complete());
    };
    const fail = (error: unknown): void => {
      this.#services.counters.handlerErrors += 1;
      this.#services.log.error(
        { event: "handler_failed", t: work.payload.t, id: objectIdOf(work.payload), error: messageOf(error) },
        "a handler failed",
      );
      work.complete();
    };
    try {
      const result = this.#services.handlers.runDirect(work, effects);
      if (result === undefined) finish();
      else result.then(finish, fail);
    } catch (error) {
      fail(error);
    }
  }
}
