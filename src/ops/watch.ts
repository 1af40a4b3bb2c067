/**
 * Owns looking at the cluster, once or again and again: listens for heartbeats, looks, and while NATS is away keeps the
 * last look and says how old it is. `guildstream status` prints what it gives.
 *
 * Invariant: after NATS was away everything is listened for anew, so that nobody counts as silent for the time in which
 * nobody could be heard. No look takes longer than `limits.ops.lookTimeoutMs`.
 */
import { ClusterList } from "../cluster/list.js";
import type { Logger } from "../core/bot.js";
import { limits } from "../core/limits.js";
import { type NatsConnection, onDisconnect, onReconnect } from "../nats/connect.js";
import { Heartbeats } from "./heartbeats.js";
import { problemsOf } from "./problems.js";
import { type ClusterStatus, readStatus } from "./status.js";

interface Ears {
  list: ClusterList;
  heartbeats: Heartbeats;
}

export class Watch {
  readonly #nc: NatsConnection;
  readonly #log: Logger;
  #ears: Promise<Ears> | undefined;
  #isConnected = true;
  #last: { status: ClusterStatus; atMs: number } | undefined;

  constructor(nc: NatsConnection, log: Logger) {
    this.#nc = nc;
    this.#log = log;
    onDisconnect(nc, () => {
      this.#isConnected = false;
      this.#close();
    });
    onReconnect(nc, () => {
      this.#isConnected = true;
    });
  }

  /** The first look, after every live member has had the time to be heard. Rejects when it cannot look. */
  async first(): Promise<ClusterStatus> {
    const ears = await this.#open(limits.ops.listenMs);
    if (ears.list.workers().size + ears.list.dbnodes().size > 0) {
      await new Promise((resolve) => setTimeout(resolve, limits.ops.listenMs));
    }
    return this.#look();
  }

  /** A look now; while NATS does not answer the last one, with its age. */
  async next(): Promise<ClusterStatus> {
    if (this.#isConnected) {
      try {
        return await this.#look();
      } catch (error) {
        this.#log.debug({ event: "look_failed", error: String(error) }, "the list-server does not answer");
        this.#close();
      }
    }
    const { status, atMs } = this.#last!;
    const aged = { ...status, natsAwayMs: Math.round(performance.now() - atMs) };
    return { ...aged, problems: problemsOf(aged) };
  }

  stop(): void {
    this.#close();
  }

  async #look(): Promise<ClusterStatus> {
    let timer: NodeJS.Timeout | undefined;
    const tooLong = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error("no answer")), limits.ops.lookTimeoutMs);
    });
    const look = this.#open(limits.ops.returnPatienceMs).then(({ list, heartbeats }) =>
      readStatus(this.#nc, list, heartbeats),
    );
    look.catch(() => {}); // It may fail after we have stopped waiting for it.
    try {
      const status = await Promise.race([look, tooLong]);
      this.#last = { status, atMs: performance.now() };
      return status;
    } finally {
      clearTimeout(timer);
    }
  }

  #open(patienceMs: number): Promise<Ears> {
    this.#ears ??= ClusterList.open(this.#nc, this.#log).then((list) => ({
      list,
      heartbeats: new Heartbeats(list, patienceMs),
    }));
    return this.#ears;
  }

  #close(): void {
    // An opening that hangs or fails has nothing to stop, one that comes late is stopped when it comes.
    this.#ears?.then(
      ({ list, heartbeats }) => {
        heartbeats.stop();
        list.stop();
      },
      () => {},
    );
    this.#ears = undefined;
  }
}
