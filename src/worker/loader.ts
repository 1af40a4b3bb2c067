/**
 * Owns getting a guild's document into memory: the log says where the guild stands, a database node gives the
 * document "at least" there, and when none can, the stream itself is folded.
 *
 * Invariants:
 * - What is returned is at the subject's last message, so that the next append may expect it.
 * - A document is never made up: a guild with messages that cannot be folded is an error.
 * - At most `guildLoadsInFlightMax` loads run at once; the rest wait in order.
 */
import type { DbnodeWatch } from "../cluster/dbnodes.js";
import type { Logger } from "../core/bot.js";
import { emptyDocument, fold, type GuildDocument } from "../core/document.js";
import { GuildstreamError, messageOf } from "../core/errors.js";
import { limits } from "../core/limits.js";
import { getReply } from "../core/members.js";
import { dbnodeSubjects } from "../core/subjects.js";
import type { NatsConnection } from "../nats/connect.js";
import type { GuildLog, StoredMessage } from "../nats/guild-log.js";
import { requestJson } from "../nats/messages.js";

export class Loader {
  readonly #nc: NatsConnection;
  readonly #guildLog: GuildLog;
  readonly #dbnodes: DbnodeWatch;
  readonly #log: Logger;
  readonly #queue: (() => void)[] = [];
  /** Guilds that the log may know. Undefined: any may. */
  #known: Set<string> | undefined;
  #running = 0;

  constructor(nc: NatsConnection, guildLog: GuildLog, dbnodes: DbnodeWatch, log: Logger) {
    this.#nc = nc;
    this.#guildLog = guildLog;
    this.#dbnodes = dbnodes;
    this.#log = log;
  }

  /**
   * Learns which guilds the log knows, so that the others open at once: a new cluster boots without a question a guild.
   * A guild that another worker creates later is no danger: our first append expects an empty subject and is fenced.
   */
  async learn(): Promise<void> {
    this.#known = await this.#guildLog.guildIds();
  }

  /** Others have written since: any guild may be in the log, and is asked for. */
  forgetKnown(): void {
    this.#known = undefined;
  }

  /** The guild's document at the end of its subject; revision 0 when the log does not know the guild. */
  async load(guildId: string, subject: string): Promise<GuildDocument> {
    if (this.#known?.has(guildId) === false) {
      this.#known.add(guildId);
      return emptyDocument();
    }
    if (this.#running >= limits.guildLoadsInFlightMax) await new Promise<void>((go) => this.#queue.push(go));
    this.#running += 1;
    try {
      return await this.#load(guildId, subject);
    } finally {
      this.#running -= 1;
      this.#queue.shift()?.();
    }
  }

  async #load(guildId: string, subject: string): Promise<GuildDocument> {
    const last = await this.#guildLog.readLast(subject);
    if (last === undefined) return emptyDocument();
    if (last.message.kind !== "event") {
      const result = fold(emptyDocument(), last.message, last.seq);
      if (result.outcome === "applied") return result.document;
    }
    const document =
      (await this.#fromDbnodes(guildId, last)) ?? (await this.#fromStream(guildId, subject, last));
    // Garbage by hand may stand on top of the last event: the fence counts it, the fold does not.
    return { ...document, seq: Math.max(document.seq, last.seq) };
  }

  async #fromDbnodes(guildId: string, last: StoredMessage): Promise<GuildDocument | undefined> {
    for (const id of this.#dbnodes.liveIds()) {
      try {
        const request = { v: 1, guildId, atLeastSeq: last.seq };
        const subject = dbnodeSubjects.get(id);
        const reply = await requestJson(this.#nc, subject, request, getReply, limits.dbGetTimeoutMs);
        if (reply?.outcome === "found" && reply.document.rev >= last.message.rev) return reply.document;
        this.#log.debug(
          { event: "db_get_missed", node: id, guildId, outcome: reply?.outcome },
          "asking the next node",
        );
      } catch (error) {
        this.#log.debug(
          { event: "db_get_failed", node: id, guildId, error: messageOf(error) },
          "asking the next node",
        );
      }
    }
    return undefined;
  }

  async #fromStream(guildId: string, subject: string, last: StoredMessage): Promise<GuildDocument> {
    let document = emptyDocument();
    for await (const stored of this.#guildLog.readAll(subject, last.seq)) {
      const result = fold(document, stored.message, stored.seq);
      if (result.outcome === "applied") document = result.document;
      if (result.outcome !== "refused") continue;
      this.#log.error(
        { event: "event_refused", guildId, seq: stored.seq, reason: result.reason },
        "not foldable",
      );
    }
    if (document.rev < last.message.rev) {
      throw new GuildstreamError("GUILD_UNAVAILABLE", `guild ${guildId} cannot be rebuilt from the stream`, {
        hint: "a database node that has it must come back, or the guild needs a snapshot",
      });
    }
    this.#log.info({ event: "guild_rebuilt", guildId, rev: document.rev }, "rebuilt from the stream");
    return document;
  }
}
