/**
 * Owns the arithmetic of the identify budget: which bucket a shard is in, when a bucket's next turn is, what is left
 * of the day, what many IDENTIFYs would cost. Pure: clocks and the list-server are src/cluster's (identify.ts there).
 *
 * Discord's rules (Gateway, "Session Start Limit"; Sharding, "Max Concurrency"): one IDENTIFY per 5 s for each
 * `shard_id % max_concurrency`, in the order of the shards, and `total` of them in 24 hours. "Upon hitting this limit,
 * all active sessions will be terminated, the bot token will be reset": so it is never hit, a reserve stays.
 */
import { z } from "zod";
import { limits } from "./limits.js";

const count = z.number().int().nonnegative();

/** What Discord says of the budget. */
export interface SessionStartLimit {
  total: number;
  remaining: number;
  /** From the answer to the reset. */
  resetAfterMs: number;
  /** The reset in Unix ms by Discord's clock: the one clock that everybody who asks has in common. */
  resetAt: number;
  maxConcurrency: number;
}

/** `identify.daily`: what is left for the whole cluster, counted down before each IDENTIFY. */
export const identifyDailyEntry = z.object({
  total: count,
  remaining: count,
  maxConcurrency: z.number().int().positive(),
  /** Unix ms by Discord's clock. */
  resetAt: z.number(),
  /** Rises whenever an answer of Discord's sets or confirms `remaining`: a count from before is not given back. */
  generation: count,
  /** Who wrote it, and when by its own clock: for people. */
  by: z.string(),
  at: z.number(),
});
export type IdentifyDailyEntry = z.infer<typeof identifyDailyEntry>;

/** `identify.<bucket>`: its last turn. The times are for people; every observer times the entry by its own clock. */
export const identifyTurnEntry = z.object({ shard: count, by: z.string(), at: z.number() });
export type IdentifyTurnEntry = z.infer<typeof identifyTurnEntry>;

export function bucketOf(shard: number, maxConcurrency: number): number {
  return shard % maxConcurrency;
}

/**
 * IDENTIFYs never spent: other programs with the same token (a test on a laptop) and those that are underway while
 * Discord answers are not in our count, and being one off at the end costs the token. None of a small total.
 */
export function reserveOf(total: number): number {
  return Math.floor(total * limits.identifyReserveShare);
}

/** How many IDENTIFYs may still leave before the reset. */
export function spendable(limit: { total: number; remaining: number }): number {
  return Math.max(0, limit.remaining - reserveOf(limit.total));
}

export interface IdentifyPlan {
  affordable: boolean;
  /** From the first turn waited for to the last IDENTIFY, at most: a bucket may have had its turn just now. */
  durationMs: number;
}

/** What IDENTIFYs of so many shards, numbered from 0, cost; known before the first of them is spent. */
export function planIdentifies(
  shardCount: number,
  limit: { total: number; remaining: number; maxConcurrency: number },
): IdentifyPlan {
  const turns = Math.ceil(shardCount / limit.maxConcurrency);
  return {
    affordable: shardCount <= spendable(limit),
    durationMs: turns * (limits.identifyIntervalMs + limits.identifyMarginMs),
  };
}

/**
 * The entry after an answer of Discord's. Within one window (one reset) the lower count wins: the answer does not know
 * what is underway, we do not know what others spent. An answer of a later window starts over, one of an earlier is old.
 * Returns the very entry when the answer changes nothing.
 */
export function reconcile(
  entry: IdentifyDailyEntry | undefined,
  answer: SessionStartLimit,
  by: string,
  at: number,
): IdentifyDailyEntry {
  const { total, remaining, maxConcurrency, resetAt } = answer;
  const told = { total, remaining, maxConcurrency, by, at };
  if (entry === undefined) return { ...told, resetAt, generation: 1 };
  const laterMs = resetAt - entry.resetAt;
  if (laterMs > limits.identifyResetToleranceMs)
    return { ...told, resetAt, generation: entry.generation + 1 };
  if (laterMs < -limits.identifyResetToleranceMs) return entry;
  if (remaining <= entry.remaining) {
    return { ...told, resetAt: entry.resetAt, generation: entry.generation + 1 };
  }
  if (total === entry.total && maxConcurrency === entry.maxConcurrency) return entry;
  return { ...entry, total, maxConcurrency, by, at };
}

/** The entry with one IDENTIFY counted; undefined when none may leave. */
export function spend(entry: IdentifyDailyEntry, by: string, at: number): IdentifyDailyEntry | undefined {
  if (spendable(entry) === 0) return undefined;
  return { ...entry, remaining: entry.remaining - 1, by, at };
}

/** The entry with one count back that certainly never left; undefined when Discord has set the count anew since. */
export function giveBack(
  entry: IdentifyDailyEntry,
  generation: number,
  by: string,
  at: number,
): IdentifyDailyEntry | undefined {
  if (entry.generation !== generation || entry.remaining >= entry.total) return undefined;
  return { ...entry, remaining: entry.remaining + 1, by, at };
}

/**
 * One observer's timing of the buckets' turns, by its own clock only.
 *
 * A turn begins when its entry is written, and this observer sees that later, never earlier: waiting a whole turn since
 * it was *seen* is enough whatever clocks other machines have. An entry that was there before we looked counts as taken
 * just then. Whoever takes a turn uses it at once (`isUsable`) or not at all; a turn that nobody uses is over like any.
 */
export class TurnClock {
  readonly turnMs: number;
  readonly #seen = new Map<number, { revision: number; atMs: number }>();
  /** Nothing is known of what happened before this. */
  #startedAtMs: number;
  /** Whether a bucket without an entry counts as taken at `#startedAtMs`. */
  #isBlank = false;

  constructor(turnMs: number, nowMs: number) {
    this.turnMs = turnMs;
    this.#startedAtMs = nowMs;
  }

  /** The bucket's entry is at this revision; one that is known already (the list was read again) is no new turn. */
  saw(bucket: number, revision: number, nowMs: number): void {
    if (this.#seen.get(bucket)?.revision === revision) return;
    this.#seen.set(bucket, { revision, atMs: nowMs });
  }

  /** The shards are in other buckets now: of none is it known when its last IDENTIFY was. */
  forget(nowMs: number): void {
    this.#seen.clear();
    this.#startedAtMs = nowMs;
    this.#isBlank = true;
  }

  /**
   * The bucket's next turn: when it may be taken by this observer's clock (may be long past), and the revision that was
   * timed. Only from that one may it be taken: another one's turn has just begun.
   */
  next(bucket: number, listed: number): { freeAtMs: number; revision: number } {
    const seen = this.#seen.get(bucket);
    if (seen !== undefined) return { freeAtMs: seen.atMs + this.turnMs, revision: seen.revision };
    // Never taken: there is nothing to keep a distance from.
    const isFree = listed === 0 && !this.#isBlank;
    return {
      freeAtMs: isFree ? Number.NEGATIVE_INFINITY : this.#startedAtMs + this.turnMs,
      revision: listed,
    };
  }

  /** Whether a turn whose taking began then may still be used: the others' clocks run since it was written. */
  static isUsable(beganAtMs: number, nowMs: number): boolean {
    return nowMs - beganAtMs <= limits.identifyUseWithinMs;
  }
}
