/**
 * The session_start_limit: how many IDENTIFYs are allowed in all and at once (Gateway, "Rate Limiting").
 *
 * Invariant: `remaining` never falls below zero; a refused IDENTIFY costs nothing. Used by the gateway
 * (spend) and GET /gateway/bot (report).
 */
import { LIMITS } from "./limits.js";
import type { ResolvedOptions } from "./options.js";

export type IdentifyVerdict = "allowed" | "tooSoon" | "exhausted";

export class IdentifyBudget {
  readonly #options: ResolvedOptions;
  #remaining: number;
  #resetAtMs: number;
  readonly #lastAtMs = new Map<number, number>();
  #shortestGapMs: number | null = null;

  constructor(options: ResolvedOptions) {
    this.#options = options;
    this.#remaining = options.identifyLimit;
    this.#resetAtMs = performance.now() + options.identifyResetMs;
  }

  /** The least time between two IDENTIFYs of one key, refused ones included; null while there were no two. */
  get shortestGapMs(): number | null {
    return this.#shortestGapMs === null ? null : Math.round(this.#shortestGapMs);
  }

  /** Takes one IDENTIFY of a shard from the budget, or says why not. */
  spend(shardId: number): IdentifyVerdict {
    this.#resetIfDue();
    if (this.#remaining === 0) return "exhausted";
    const { identifyIntervalMs, maxConcurrency } = this.#options;
    const key = shardId % maxConcurrency;
    const nowMs = performance.now();
    const sinceMs = nowMs - (this.#lastAtMs.get(key) ?? Number.NEGATIVE_INFINITY);
    if (Number.isFinite(sinceMs)) this.#shortestGapMs = Math.min(sinceMs, this.#shortestGapMs ?? sinceMs);
    const slackMs = Math.min(LIMITS.identifySlackMs, identifyIntervalMs / 2);
    if (sinceMs < identifyIntervalMs - slackMs) return "tooSoon";
    this.#lastAtMs.set(key, nowMs);
    this.#remaining--;
    return "allowed";
  }

  /** The session_start_limit object of GET /gateway/bot; `reset_after` in milliseconds. */
  report() {
    this.#resetIfDue();
    return {
      total: this.#options.identifyLimit,
      remaining: this.#remaining,
      reset_after: Math.ceil(this.#resetAtMs - performance.now()),
      max_concurrency: this.#options.maxConcurrency,
    };
  }

  #resetIfDue(): void {
    if (performance.now() < this.#resetAtMs) return;
    this.#remaining = this.#options.identifyLimit;
    this.#resetAtMs = performance.now() + this.#options.identifyResetMs;
  }
}
