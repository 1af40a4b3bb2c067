/**
 * Owns leave to IDENTIFY, cluster-wide: one at a time for each max_concurrency bucket, 5 s apart, the lowest shard
 * first, none once the day's limit is spent (core/identify.ts has the rules, identify-daily.ts the count).
 *
 * Invariants:
 * - A turn is one compare-and-set on `identify.<bucket>` from a revision that this process has timed by its own clock:
 *   whatever workers race, one wins, and no machine's wall clock is compared with another's.
 * - A turn is used at once or not at all. Counted first, then the turn: a lost race gives the count back.
 * - The order is a courtesy with a bound (`identifyHeadStartMs`): a shard that is stuck elsewhere holds nobody up.
 * - Trouble with Discord or the list-server is waited out. Only a refused token is told to the shards.
 *
 * If the process dies after it took a turn, that bucket's next turn comes one interval later: nothing else is lost.
 */
import type { Logger } from "../core/bot.js";
import { GuildstreamError, messageOf } from "../core/errors.js";
import {
  bucketOf,
  type IdentifyDailyEntry,
  reserveOf,
  type SessionStartLimit,
  spendable,
  TurnClock,
} from "../core/identify.js";
import { limits } from "../core/limits.js";
import { clusterKeys } from "../core/subjects.js";
import { DailyLimit } from "./identify-daily.js";
import type { ClusterList } from "./list.js";

export interface IdentifyOptions {
  list: ClusterList;
  /** This worker's id. */
  by: string;
  /** GET /gateway/bot: what Discord says is left. */
  ask: () => Promise<SessionStartLimit>;
  log: Logger;
  /** Other shards wait than before: the member's entry is to say so now, for the order among workers. */
  onWaitingChanged: () => void;
  /** Discord's 5 s; shorter only where a simulator's is. */
  intervalMs?: number | undefined;
}

interface Waiter {
  shard: number;
  sinceMs: number;
  resolve(): void;
  reject(reason: unknown): void;
}

/** The next turn of a bucket, and who of ours would have it. */
interface Turn {
  bucket: number;
  waiter: Waiter;
  /** Of the entry that was timed. */
  revision: number;
  dueAtMs: number;
}

const turnKey = /^identify\.(\d+)$/;

export class IdentifyBudget {
  readonly #options: IdentifyOptions;
  readonly #daily: DailyLimit;
  readonly #clock: TurnClock;
  readonly #waiters = new Map<number, Waiter>();
  #announcing: NodeJS.Timeout | undefined;
  #isRunning = false;
  #maxConcurrency: number | undefined;
  #refusedAtMs = Number.NEGATIVE_INFINITY;
  /** Ends the pause between two rounds; what happens during a round makes the pause none. */
  #wake: () => void = () => {};
  #isWoken = false;

  constructor(options: IdentifyOptions) {
    const { list, intervalMs = limits.identifyIntervalMs } = options;
    this.#options = options;
    this.#daily = new DailyLimit(options);
    this.#clock = new TurnClock(intervalMs + limits.identifyMarginMs, performance.now());
    list.onChange((key) => this.#onChange(key));
  }

  /** The shards that wait for leave, lowest first. */
  get waiting(): number[] {
    return [...this.#waiters.keys()].sort((a, b) => a - b);
  }

  /** Resolves when the shard may IDENTIFY, and must then at once; rejects when aborted or the token is refused. */
  waitForIdentify(shard: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      signal.throwIfAborted();
      const onAbort = (): void => waiter.reject(signal.reason);
      const leave = (): void => {
        signal.removeEventListener("abort", onAbort);
        if (this.#waiters.get(shard) === waiter) this.#waiters.delete(shard);
        this.#announce();
      };
      const waiter: Waiter = {
        shard,
        sinceMs: performance.now(),
        resolve: () => {
          leave();
          resolve();
        },
        reject: (reason) => {
          leave();
          reject(reason);
        },
      };
      signal.addEventListener("abort", onAbort, { once: true });
      this.#waiters.set(shard, waiter);
      this.#announce();
      this.#wakeUp();
      void this.#run();
    });
  }

  /** The shards of one start come one after the other, and get their leaves together: one announcement for many. */
  #announce(): void {
    this.#announcing ??= setTimeout(() => {
      this.#announcing = undefined;
      this.#options.onWaitingChanged();
    }, limits.identifyAnnounceMs);
  }

  #onChange(key: string): void {
    if (key === clusterKeys.identifyDaily) this.#daily.refresh();
    else {
      const bucket = turnKey.exec(key)?.[1];
      if (bucket === undefined) return;
      this.#clock.saw(Number(bucket), this.#options.list.revisionOf(key), performance.now());
    }
    this.#wakeUp();
  }

  /** Rounds for as long as shards wait. */
  async #run(): Promise<void> {
    if (this.#isRunning) return;
    this.#isRunning = true;
    while (this.#waiters.size > 0) {
      this.#isWoken = false;
      let pauseMs: number = limits.identifyRetryMs;
      try {
        pauseMs = await this.#round();
      } catch (error) {
        if (error instanceof GuildstreamError && error.code === "DISCORD_TOKEN_INVALID") {
          for (const waiter of this.#waiters.values()) waiter.reject(error);
        } else {
          const fields = { event: "identify_waits", shards: this.waiting, error: messageOf(error) };
          this.#options.log.warn(
            fields,
            "Discord or the list-server does not answer: no leave to IDENTIFY now",
          );
          this.#isWoken = false;
        }
      }
      await this.#pause(pauseMs);
    }
    this.#isRunning = false;
  }

  /** Takes every turn that is due; how long until the next one may be. */
  async #round(): Promise<number> {
    const limit = await this.#daily.current();
    if (this.#maxConcurrency !== undefined && this.#maxConcurrency !== limit.maxConcurrency) {
      this.#clock.forget(performance.now());
    }
    this.#maxConcurrency = limit.maxConcurrency;
    if (spendable(limit) === 0) return this.#refuse(limit);
    const nowMs = performance.now();
    const turns = [...this.#firstOfBuckets(limit.maxConcurrency)].map(([bucket, waiter]) =>
      this.#nextTurn(bucket, waiter, limit.maxConcurrency),
    );
    const due = turns.filter(({ dueAtMs }) => dueAtMs <= nowMs);
    const taken = await Promise.allSettled(due.map((turn) => this.#take(turn)));
    const failed = taken.find((outcome) => outcome.status === "rejected");
    if (failed !== undefined) throw failed.reason;
    if (due.length > 0) return 0;
    return Math.min(this.#clock.turnMs, ...turns.map(({ dueAtMs }) => dueAtMs - nowMs));
  }

  #firstOfBuckets(maxConcurrency: number): Map<number, Waiter> {
    const first = new Map<number, Waiter>();
    for (const waiter of this.#waiters.values()) {
      const bucket = bucketOf(waiter.shard, maxConcurrency);
      if (waiter.shard < (first.get(bucket)?.shard ?? Number.POSITIVE_INFINITY)) first.set(bucket, waiter);
    }
    return first;
  }

  #nextTurn(bucket: number, waiter: Waiter, maxConcurrency: number): Turn {
    const { list, by } = this.#options;
    const { freeAtMs, revision } = this.#clock.next(bucket, list.revisionOf(clusterKeys.identify(bucket)));
    const others = [...list.workers().values()].filter((worker) => worker.live && worker.id !== by);
    if (others.length === 0) return { bucket, waiter, revision, dueAtMs: freeAtMs };
    const isBehind = others.some(({ offline }) =>
      // One that is still on its way may turn out to have no session, too.
      [...offline.identifying, ...offline.connecting].some(
        (shard) => shard < waiter.shard && bucketOf(shard, maxConcurrency) === bucket,
      ),
    );
    const settledAtMs = Math.max(freeAtMs, waiter.sinceMs + limits.identifySettleMs);
    return { bucket, waiter, revision, dueAtMs: settledAtMs + (isBehind ? limits.identifyHeadStartMs : 0) };
  }

  async #take(turn: Turn): Promise<void> {
    const generation = await this.#daily.spend();
    if (generation === undefined) return;
    const { waiter } = turn;
    let isOurs = false;
    const beganAtMs = performance.now();
    try {
      isOurs = await this.#takeTurn(turn);
    } finally {
      const isWaiting = this.#waiters.get(waiter.shard) === waiter;
      if (isOurs && isWaiting && TurnClock.isUsable(beganAtMs, performance.now())) waiter.resolve();
      else await this.#daily.giveBack(generation);
    }
  }

  async #takeTurn({ bucket, waiter, revision }: Turn): Promise<boolean> {
    const { list, by } = this.#options;
    const key = clusterKeys.identify(bucket);
    const entry = { shard: waiter.shard, by, at: Date.now() };
    const taken = await list.compareAndSet(key, entry, revision);
    // Lost: another's turn has begun. Asked and not waited for: after a wipe the watch has nothing to tell.
    const current = taken ?? (await list.get(key))?.revision ?? 0;
    this.#clock.saw(bucket, current, performance.now());
    return taken !== undefined;
  }

  /** Says that the day is spent, and how long to wait before Discord is asked again. */
  #refuse(limit: IdentifyDailyEntry): number {
    const { resetInMs } = this.#daily;
    const nowMs = performance.now();
    if (nowMs - this.#refusedAtMs >= limits.identifyRefusalLogIntervalMs) {
      this.#refusedAtMs = nowMs;
      const fields = {
        event: "identify_limit_spent",
        shards: this.waiting,
        remaining: limit.remaining,
        total: limit.total,
        kept: reserveOf(limit.total),
        resetInMs: Math.round(resetInMs),
        resetAt: new Date(limit.resetAt).toISOString(),
        hint: "leave the other workers running: their sessions RESUME and cost nothing. Look in the logs for what spent them (shard_identified, session_invalidated) and for other programs with this token",
      };
      this.#options.log.error(
        fields,
        "Discord's daily limit of new sessions is spent: these shards wait for its reset",
      );
    }
    return Math.min(Math.max(resetInMs, limits.identifyAskMinIntervalMs), limits.identifyAskIntervalMs);
  }

  #wakeUp(): void {
    this.#isWoken = true;
    this.#wake();
  }

  async #pause(ms: number): Promise<void> {
    if (this.#isWoken || ms <= 0) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = () => {};
  }
}
