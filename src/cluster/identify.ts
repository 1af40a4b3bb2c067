/**
 * Owns the cluster-wide identify budget: one IDENTIFY per max_concurrency bucket every 5 s, by compare-and-set on
 * `identify.<bucket>`, and none at all once Discord's daily session_start_limit is spent (Discord Gateway
 * documentation, "Session Start Limit"). Spending past it resets the bot's token, so we wait instead, loudly.
 *
 * If the process dies after it took its turn, that bucket's next turn comes 5 s later: nothing else is lost.
 */
import type { Logger } from "../core/bot.js";
import { clusterKeys } from "../core/subjects.js";
import type { ClusterList } from "./list.js";

const bucketIntervalMs = 5_000;

export interface SessionStartLimit {
  remaining: number;
  reset_after: number;
  max_concurrency: number;
}

export class IdentifyBudget {
  readonly #list: ClusterList;
  readonly #limit: () => Promise<SessionStartLimit>;
  readonly #log: Logger;
  /** The last answer, counted down by what we spent since: Discord rate limits the question itself. */
  #known: { limit: SessionStartLimit; askedAt: number } | undefined;

  constructor(list: ClusterList, limit: () => Promise<SessionStartLimit>, log: Logger) {
    this.#list = list;
    this.#limit = limit;
    this.#log = log;
  }

  /** Resolves when the shard may IDENTIFY; rejects when aborted. */
  async waitForIdentify(shardId: number, signal: AbortSignal): Promise<void> {
    for (;;) {
      signal.throwIfAborted();
      const limit = await this.#current();
      if (limit.remaining <= 0) {
        this.#log.error(
          { event: "identify_limit_spent", shard: shardId, resetAfterMs: limit.reset_after },
          "Discord's daily limit of new sessions is spent; waiting for its reset",
        );
        await sleep(Math.min(limit.reset_after, 60_000), signal);
        continue;
      }
      const key = clusterKeys.identify(shardId % Math.max(1, limit.max_concurrency));
      const entry = await this.#list.get(key);
      const takenAt = Number((entry?.value as { at?: number } | undefined)?.at ?? 0);
      const waitMs = takenAt + bucketIntervalMs - Date.now();
      if (waitMs > 0 && waitMs <= bucketIntervalMs) {
        await sleep(waitMs, signal);
        continue;
      }
      const taken = { at: Date.now(), shard: shardId };
      if ((await this.#list.compareAndSet(key, taken, entry?.revision ?? 0)) === undefined) continue;
      limit.remaining -= 1;
      return;
    }
  }

  async #current(): Promise<SessionStartLimit> {
    const now = performance.now();
    if (this.#known === undefined || now - this.#known.askedAt > bucketIntervalMs) {
      this.#known = { limit: { ...(await this.#limit()) }, askedAt: now };
    }
    return this.#known.limit;
  }
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(done, ms);
    function done(): void {
      signal.removeEventListener("abort", aborted);
      resolve();
    }
    function aborted(): void {
      clearTimeout(timer);
      reject(signal.reason);
    }
    signal.addEventListener("abort", aborted, { once: true });
  });
}
