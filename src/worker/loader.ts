/**
 * Owns getting a guild's document into memory: the log says where the guild stands, a database node gives the
 * document "at least" there, and when none can, the stream itself is folded.
 *
 * Invariants:
 * - What is returned is at the subject's last message, so that the next append may expect it.
 * - A document is never made up: a guild with messages that cannot be folded is an error.
 * - At most `guildLoadsInFlightMax` loads run at once, and none begins while memory is full; the rest wait in order.
 * - Silent nodes cost a load `dbGetAllMs` together, then it turns to the stream.
 */
import type { DbnodeWatch } from "../cluster/dbnodes.js";
import type { Logger } from "../core/bot.js";
import { emptyDocument, fold, type GuildDocument } from "../core/document.js";
import { GuildstreamError, messageOf } from "../core/errors.js";
import { limits } from "../core/limits.js";
import { type GetReply, type GetRequest, getReply } from "../core/members.js";
import { dbnodeSubjects } from "../core/subjects.js";
import type { NatsConnection } from "../nats/connect.js";
import type { GuildLog, StoredMessage } from "../nats/guild-log.js";
import { requestJson } from "../nats/messages.js";

export class Loader {
  readonly #nc: NatsConnection;
  readonly #guildLog: GuildLog;
  readonly #dbnodes: DbnodeWatch;
  readonly #log: Logger;
  readonly #mayBegin: () => boolean;
  readonly #queue: (() => void)[] = [];
  /** Guilds that the log may know. Undefined: any may. */
  #known: Set<string> | undefined;
  #running = 0;

  constructor(
    nc: NatsConnection,
    guildLog: GuildLog,
    dbnodes: DbnodeWatch,
    log: Logger,
    /** Whether there is memory for another guild. */
    mayBegin: () => boolean = () => true,
  ) {
    this.#nc = nc;
    this.#guildLog = guildLog;
    this.#dbnodes = dbnodes;
    this.#log = log;
    this.#mayBegin = mayBegin;
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
    await new Promise<void>((begin) => {
      this.#queue.push(begin);
      this.begin();
    });
    try {
      return await this.#load(guildId, subject);
    } finally {
      this.#running -= 1;
      this.begin();
    }
  }

  /** Begins the loads that wait, as far as there is room; called when there is more of it. */
  begin(): void {
    while (this.#queue.length > 0 && this.#running < limits.guildLoadsInFlightMax && this.#mayBegin()) {
      this.#running += 1;
      this.#queue.shift()!();
    }
  }

  async #load(guildId: string, subject: string): Promise<GuildDocument> {
    const last = await this.#guildLog.readLast(subject);
    if (last === undefined) return emptyDocument();
    if (last.message.kind !== "event") {
      const result = fold(emptyDocument(), last.message, last.seq);
      if (result.outcome === "applied") return result.document;
    }
    const document = await this.#documentOf(guildId, subject, last);
    // Garbage by hand may stand on top of the last event: the fence counts it, the fold does not.
    return { ...document, seq: Math.max(document.seq, last.seq) };
  }

  async #documentOf(guildId: string, subject: string, last: StoredMessage): Promise<GuildDocument> {
    const { first, last: avoided } = this.#dbnodes.order(performance.now());
    const document = await this.#fromDbnodes(first, guildId, last);
    if (document !== undefined) return document;
    try {
      return await this.#fromStream(guildId, subject, last);
    } catch (error) {
      const late = await this.#fromDbnodes(avoided, guildId, last);
      if (late !== undefined) return late;
      throw error;
    }
  }

  async #fromDbnodes(
    ids: readonly string[],
    guildId: string,
    last: StoredMessage,
  ): Promise<GuildDocument | undefined> {
    const deadlineAt = performance.now() + limits.dbGetAllMs;
    for (const id of ids) {
      const leftMs = deadlineAt - performance.now();
      // Too little to tell a silent node from one that is just not that fast.
      if (leftMs < limits.dbGetTimeoutMs / 4) return undefined;
      const timeoutMs = Math.min(limits.dbGetTimeoutMs, leftMs);
      const reply = await this.#ask(id, { v: 1, guildId, atLeastSeq: last.seq }, timeoutMs);
      if (reply?.outcome === "found" && reply.document.rev >= last.message.rev) return reply.document;
      this.#log.debug(
        { event: "db_get_missed", node: id, guildId, outcome: reply?.outcome },
        "no answer to use",
      );
    }
    return undefined;
  }

  /** The node's answer, or undefined when it failed; either counts for whom to ask next time. */
  async #ask(id: string, request: GetRequest, timeoutMs: number): Promise<GetReply | undefined> {
    const { choice } = this.#dbnodes;
    const askedAt = performance.now();
    choice.asked(id, askedAt);
    let reply: GetReply | undefined;
    try {
      reply = await requestJson(this.#nc, dbnodeSubjects.get(id), request, getReply, timeoutMs);
    } catch (error) {
      this.#log.debug({ event: "db_get_failed", node: id, error: messageOf(error) }, "a node did not answer");
    }
    const now = performance.now();
    if (reply === undefined) choice.failed(id, now);
    // As bad as a slow one, however quick it was to say so.
    else if (reply.outcome === "behind") choice.answered(id, limits.dbGetTimeoutMs, now);
    else choice.answered(id, now - askedAt, now);
    return reply;
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
    this.#log.debug({ event: "guild_rebuilt", guildId, rev: document.rev }, "rebuilt from the stream");
    return document;
  }
}
