/**
 * The session_start_limit: how many IDENTIFYs are allowed in all and at once (Gateway, "Rate Limiting").
 *
 * Invariant: `remaining` never falls below zero; a refused IDENTIFY costs nothing. Used by the gateway
 * (spend) and GET /gateway/bot (report).
 */
import { LIMITS } from "./limits.js";

export type IdentifyVerdict = "allowed" | "tooSoon" | "exhausted";

export class IdentifyBudget {
  #remaining: number;
  #resetAtMs = performance.now() + LIMITS.identifyResetMs;
  readonly #lastAtMs = new Map<number, number>();

  constructor(
    private readonly total: number,
    private readonly maxConcurrency: number,
    private readonly intervalMs: number,
  ) {
    this.#remaining = total;
  }

  /** Takes one IDENTIFY of a shard from the budget, or says why not. */
  spend(shardId: number): IdentifyVerdict {
    this.#resetIfDue();
    if (this.#remaining === 0) return "exhausted";
    const key = shardId % this.maxConcurrency;
    const nowMs = performance.now();
    const sinceMs = nowMs - (this.#lastAtMs.get(key) ?? Number.NEGATIVE_INFINITY);
    const slackMs = Math.min(LIMITS.identifySlackMs, this.intervalMs / 2);
    if (sinceMs < this.intervalMs - slackMs) return "tooSoon";
    this.#lastAtMs.set(key, nowMs);
    this.#remaining--;
    return "allowed";
  }

  /** The session_start_limit object of GET /gateway/bot; `reset_after` in milliseconds. */
  report() {
    this.#resetIfDue();
    return {
      total: this.total,
      remaining: this.#remaining,
      reset_after: Math.ceil(this.#resetAtMs - performance.now()),
      max_concurrency: this.maxConcurrency,
    };
  }

  #resetIfDue(): void {
    if (performance.now() < this.#resetAtMs) return;
    this.#remaining = this.total;
    this.#resetAtMs = performance.now() + LIMITS.identifyResetMs;
  }
}
