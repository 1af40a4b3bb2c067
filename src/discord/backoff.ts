/**
 * Owns how long a shard waits before its next attempt: bounded, jittered, longer with every failure in a row.
 * Used by shard.ts.
 */
import { limits } from "../core/limits.js";

export class Backoff {
  #failures = 0;

  /** Attempts in a row that came to nothing. */
  get failures(): number {
    return this.#failures;
  }

  reset(): void {
    this.#failures = 0;
  }

  /** Notes a failure; the wait before the next attempt. What was up until now is tried again at once, the first time. */
  nextMs(wasUp: boolean): number {
    const isFirst = this.#failures === 0;
    const ceiling = Math.min(
      limits.shardRetryMaxMs,
      limits.shardRetryMinMs * 2 ** Math.min(this.#failures, 10),
    );
    this.#failures += 1;
    return wasUp && isFirst ? 0 : ceiling * (0.5 + Math.random() / 2);
  }
}
