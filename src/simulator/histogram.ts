/**
 * A latency histogram of fixed size: logarithmic buckets, about 5 % wide.
 *
 * Used for the time from an interaction's dispatch to its answer.
 */
const SMALLEST_MS = 0.05;
const GROWTH = 1.05;
/** The last bucket begins at about a minute; longer times land in it. */
const BUCKETS = 290;

export class Histogram {
  readonly #buckets = new Uint32Array(BUCKETS);
  #count = 0;
  #maxMs = 0;

  add(ms: number): void {
    const bucket = Math.floor(Math.log(Math.max(ms, SMALLEST_MS) / SMALLEST_MS) / Math.log(GROWTH));
    const index = Math.min(bucket, BUCKETS - 1);
    this.#buckets[index] = this.#buckets[index]! + 1;
    this.#count++;
    this.#maxMs = Math.max(this.#maxMs, ms);
  }

  get maxMs(): number | null {
    return this.#count === 0 ? null : round(this.#maxMs);
  }

  /** The time that a share of all samples lies under (0.99: p99), at most 5 % off; null without any. */
  quantileMs(share: number): number | null {
    if (this.#count === 0) return null;
    let left = Math.ceil(this.#count * share);
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      left -= this.#buckets[bucket]!;
      if (left <= 0) return round(Math.min(SMALLEST_MS * GROWTH ** (bucket + 1), this.#maxMs));
    }
    return round(this.#maxMs);
  }
}

function round(ms: number): number {
  return Math.round(ms * 1_000) / 1_000;
}
