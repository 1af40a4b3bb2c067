/**
 * REST rate limits: a bucket per route and major parameter, and one for the whole bot.
 *
 * Invariant: a refused request costs nothing. Windows are fixed: the first request of a bucket starts
 * one. Topics, "Rate Limits". Used by rest.ts.
 */
import { LIMITS } from "./limits.js";
import { mix } from "./random.js";
import type { BucketRule } from "./rest-api.js";

interface Bucket {
  remaining: number;
  resetAtMs: number;
}

export interface LimitVerdict {
  /** The X-RateLimit headers of the reply. */
  readonly headers: Record<string, string>;
  /** Set if the request is refused with 429. */
  readonly refused: { readonly retryAfterMs: number; readonly global: boolean } | null;
}

export class RateLimits {
  readonly #buckets = new Map<string, Bucket>();
  readonly #global: Bucket = { remaining: 0, resetAtMs: 0 };

  constructor(private readonly globalRequestsPerSecond: number) {}

  /**
   * Takes one request.
   *
   * @param route names the route; @param major is its channel, guild or webhook id
   * @param rule the route's limit, if it has one
   * @param countsGlobally false for interaction callbacks and their webhooks
   */
  take(route: string, major: string, rule: BucketRule | undefined, countsGlobally: boolean): LimitVerdict {
    const nowMs = performance.now();
    if (countsGlobally) {
      renew(this.#global, nowMs, this.globalRequestsPerSecond, LIMITS.globalWindowMs);
      if (this.#global.remaining === 0) {
        const retryAfterMs = this.#global.resetAtMs - nowMs;
        const headers = { "X-RateLimit-Global": "true", "X-RateLimit-Scope": "global" };
        return { headers: { ...headers, ...retry(retryAfterMs) }, refused: { retryAfterMs, global: true } };
      }
    }
    if (rule === undefined) {
      if (countsGlobally) this.#global.remaining--;
      return { headers: {}, refused: null };
    }
    const bucket = this.#bucket(`${route} ${major}`);
    renew(bucket, nowMs, rule.limit, rule.windowMs);
    const refused = bucket.remaining === 0;
    if (!refused) {
      bucket.remaining--;
      if (countsGlobally) this.#global.remaining--;
    }
    const resetAfterMs = bucket.resetAtMs - nowMs;
    const headers = {
      "X-RateLimit-Limit": String(rule.limit),
      "X-RateLimit-Remaining": String(bucket.remaining),
      "X-RateLimit-Reset": ((Date.now() + resetAfterMs) / 1_000).toFixed(3),
      "X-RateLimit-Reset-After": (resetAfterMs / 1_000).toFixed(3),
      "X-RateLimit-Bucket": bucketHash(route),
    };
    if (!refused) return { headers, refused: null };
    return {
      headers: { ...headers, "X-RateLimit-Scope": "user", ...retry(resetAfterMs) },
      refused: { retryAfterMs: resetAfterMs, global: false },
    };
  }

  #bucket(key: string): Bucket {
    let bucket = this.#buckets.get(key);
    if (bucket === undefined) {
      if (this.#buckets.size >= LIMITS.bucketsKept) this.#removeRunOut();
      bucket = { remaining: 0, resetAtMs: 0 };
      this.#buckets.set(key, bucket);
    }
    return bucket;
  }

  #removeRunOut(): void {
    const nowMs = performance.now();
    for (const [key, bucket] of this.#buckets) {
      if (bucket.resetAtMs <= nowMs) this.#buckets.delete(key);
    }
  }
}

function renew(bucket: Bucket, nowMs: number, limit: number, windowMs: number): void {
  if (nowMs < bucket.resetAtMs) return;
  bucket.remaining = limit;
  bucket.resetAtMs = nowMs + windowMs;
}

function retry(retryAfterMs: number): Record<string, string> {
  return { "Retry-After": String(Math.ceil(retryAfterMs / 1_000)) };
}

/** A bucket's public name: the same for every major parameter of a route. */
function bucketHash(route: string): string {
  let hash = 0;
  for (let at = 0; at < route.length; at++) hash = mix(hash, route.charCodeAt(at));
  return `sim${hash.toString(16).padStart(8, "0")}`;
}
