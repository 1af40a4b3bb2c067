/**
 * Owns noticing that the guild log lost its end: a server that was killed may come back without its newest messages,
 * with the same numbers given to others.
 *
 * Invariants:
 * - After every reconnect nothing becomes clean before the stream has been looked at.
 * - What the stream lost and memory still holds is put back, by a snapshot of each guild.
 *
 * If the process dies meanwhile, what only it held is lost with it, as far as no database node has it.
 */
import type { DbnodeWatch } from "../cluster/dbnodes.js";
import type { Logger } from "../core/bot.js";
import { messageOf } from "../core/errors.js";
import { limits } from "../core/limits.js";
import { type NatsConnection, onReconnect } from "../nats/connect.js";
import type { GuildLog } from "../nats/guild-log.js";
import type { Guilds } from "./guilds.js";
import type { SavedTracker } from "./saved.js";

export interface RewindWatchOptions {
  nc: NatsConnection;
  guildLog: GuildLog;
  dbnodes: DbnodeWatch;
  saved: SavedTracker;
  guilds: Guilds;
  log: Logger;
}

export class RewindWatch {
  readonly #options: RewindWatchOptions;
  #created = "";
  #stopped = false;

  constructor(options: RewindWatchOptions) {
    this.#options = options;
    onReconnect(options.nc, () => {
      if (this.#stopped) return;
      options.saved.suspend();
      void this.#check();
    });
  }

  async begin(): Promise<void> {
    this.#created = (await this.#options.guildLog.streamEnd()).created;
  }

  stop(): void {
    this.#stopped = true;
  }

  /** If the stream ends before what it acknowledged to us, memory is all there is of the rest. */
  async #check(): Promise<void> {
    const { nc, guildLog, dbnodes, saved, guilds, log } = this.#options;
    if (this.#stopped) return;
    let end: { created: string; lastSeq: number };
    try {
      end = await guildLog.streamEnd();
    } catch (error) {
      log.warn({ event: "stream_check_failed", error: messageOf(error) }, "the log does not answer");
      if (!nc.isClosed()) setTimeout(() => void this.#check(), limits.listRetryMs).unref();
      return;
    }
    // What nodes have saved was in the stream as well.
    const had = Math.max(guildLog.lastSeq, dbnodes.watermark);
    if (end.created === this.#created && end.lastSeq >= had) {
      saved.resume();
      return;
    }
    log.error(
      { event: "stream_rewound", had, has: end.lastSeq },
      "the guild log lost its end; putting back what memory holds",
    );
    this.#created = end.created;
    dbnodes.distrust();
    saved.resume(end.lastSeq);
    guilds.repairAbove(end.lastSeq);
  }
}
