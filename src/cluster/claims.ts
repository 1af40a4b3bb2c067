/**
 * Owns which shards this worker holds: claims free ones up to its share, gives up what is above it. What it should do
 * is decided in core/placement.ts; here it is done, by compare-and-set on `shard.<n>`.
 *
 * Invariants:
 * - Two workers cannot both win a claim. It is still only placement: a worker that lost its claim without noticing is
 *   stopped by the log's fence.
 * - A claim is given up only after its shard is closed and checkpointed.
 * - A claim that another took without our giving it up means that we were taken for dead: `onRobbed`, once.
 *
 * If the process dies holding shards, the others see its heartbeats end and claim them. Called by the worker.
 */
import type { Logger } from "../core/bot.js";
import { messageOf } from "../core/errors.js";
import { limits } from "../core/limits.js";
import { type PlacedShard, type PlacedWorker, place } from "../core/placement.js";
import { clusterKeys } from "../core/subjects.js";
import type { ClusterList } from "./list.js";

export interface ClaimsOptions {
  id: string;
  incarnation: string;
  shardCount: number;
  list: ClusterList;
  log: Logger;
  /** The shard is ours: open it. `from`: the worker that held it before and died with it, if one did. */
  onClaimed(shard: number, from: string | undefined): void;
  /** Which of the held shards may go now, the best first. */
  mayRelease(): number[];
  /** The shard is one too many: hand it over, or close it and give it up. */
  onRelease(shard: number): Promise<void>;
  /** Another worker has a claim of ours. */
  onRobbed(shard: number): void;
}

export class ShardClaims {
  readonly #options: ClaimsOptions;
  /** Held shards, with the revision of our claim. */
  readonly #held = new Map<number, number>();
  /** Of these, the ones on their way to another worker: that it takes the claim is no robbery. */
  readonly #giving = new Set<number>();
  readonly #stops: (() => void)[] = [];
  #timer: NodeJS.Timeout | undefined;
  #debounce: NodeJS.Timeout | undefined;
  #turning: Promise<void> | undefined;
  #again = false;
  #paused = false;
  #stopped = false;

  constructor(options: ClaimsOptions) {
    this.#options = options;
  }

  get held(): number[] {
    return [...this.#held.keys()].sort((a, b) => a - b);
  }

  start(): void {
    const { list } = this.#options;
    this.#stops.push(
      list.onChange((key, news) => {
        if (news === "change" && /^(shard|worker)\./.test(key)) this.#soon();
      }),
      list.onRebuilt(() => void this.#reclaim()),
    );
    this.#timer = setInterval(() => this.#turn(), limits.claimIntervalMs);
    this.#turn();
  }

  /** Claims and gives up nothing more by itself; what is held stays so. Resolves when a turn that was underway is over. */
  async stop(): Promise<void> {
    this.#stopped = true;
    for (const stop of this.#stops) stop();
    clearInterval(this.#timer);
    clearTimeout(this.#debounce);
    await this.#turning;
  }

  /** Changes nothing by itself until `resume`: a hotboot decides what goes where. Resolves when no turn is underway. */
  async pause(): Promise<void> {
    this.#paused = true;
    await this.#turning;
  }

  resume(): void {
    this.#paused = false;
    this.#soon();
  }

  /** Whether the list says that the shard is ours, as far as the picture goes. */
  isOurs(shard: number): boolean {
    return this.#options.list.shard(shard)?.incarnation === this.#options.incarnation;
  }

  /**
   * Gives a shard back so that anyone may claim it: after it was closed and checkpointed. False when the list-server
   * could not be told; the others take it once this worker is gone.
   */
  async giveUp(shard: number): Promise<boolean> {
    const { list, log } = this.#options;
    const deadlineAt = performance.now() + limits.handOverTimeoutMs;
    while (performance.now() < deadlineAt) {
      const revision = this.#held.get(shard);
      if (revision === undefined) return true;
      try {
        await list.compareAndSet(
          clusterKeys.shard(shard),
          { owner: "", incarnation: "", at: Date.now() },
          revision,
        );
        this.#held.delete(shard);
        return true;
      } catch (error) {
        log.warn(
          { event: "give_up_failed", shard, error: messageOf(error) },
          "the list-server does not answer",
        );
        await new Promise((resolve) => setTimeout(resolve, limits.listRetryMs));
      }
    }
    return false;
  }

  /** Asks the list-server itself, not the picture: after this process stood still. */
  async verify(): Promise<void> {
    for (const shard of this.held) {
      if (this.#giving.has(shard)) continue;
      const entry = await this.#options.list.get(clusterKeys.shard(shard));
      const holder = entry?.value as { incarnation?: string } | undefined;
      if (holder?.incarnation === undefined || holder.incarnation === this.#options.incarnation) continue;
      this.#robbed(shard);
      return;
    }
  }

  /** The shard is being handed over; until `keep` or `letGo`. */
  give(shard: number): void {
    this.#giving.add(shard);
  }

  /** It was not handed over after all. */
  keep(shard: number): void {
    this.#giving.delete(shard);
  }

  /** Another worker has the claim, with our consent. */
  letGo(shard: number): void {
    this.#giving.delete(shard);
    this.#held.delete(shard);
  }

  /** The revision of our claim. */
  revisionOf(shard: number): number {
    return this.#held.get(shard) ?? 0;
  }

  /** Replaces another's claim of exactly this revision by ours; false when there is another one by now. */
  async takeOver(shard: number, revision: number): Promise<boolean> {
    const { list, id, incarnation } = this.#options;
    const key = clusterKeys.shard(shard);
    const claimed = await list.compareAndSet(key, { owner: id, incarnation, at: Date.now() }, revision);
    if (claimed === undefined) return false;
    this.#held.set(shard, claimed);
    await list.caughtUp(claimed);
    return true;
  }

  /** Writes our claim once more, so that nobody can take over its old revision; false when somebody has. */
  renew(shard: number): Promise<boolean> {
    return this.takeOver(shard, this.revisionOf(shard));
  }

  #soon(): void {
    this.#debounce ??= setTimeout(() => {
      this.#debounce = undefined;
      this.#turn();
    }, limits.claimDebounceMs);
  }

  #turn(): void {
    if (this.#stopped || this.#paused) return;
    if (this.#turning !== undefined) {
      this.#again = true;
      return;
    }
    this.#turning = this.#balance()
      .catch((error: unknown) => {
        this.#options.log.warn(
          { event: "claims_failed", error: messageOf(error) },
          "cannot claim shards now",
        );
      })
      .finally(() => {
        this.#turning = undefined;
        if (!this.#again) return;
        this.#again = false;
        this.#soon();
      });
  }

  async #balance(): Promise<void> {
    const { id, incarnation, shardCount, mayRelease, onRelease } = this.#options;
    const { shards, revisions, workers } = this.#picture(shardCount);
    const placement = place({
      self: { id, incarnation },
      shardCount,
      shards,
      workers,
      held: new Map([...this.#held].filter(([shard]) => !this.#giving.has(shard))),
    });
    const [lost] = placement.lost;
    if (lost !== undefined) {
      this.#robbed(lost);
      return;
    }
    for (const shard of placement.claim) {
      if (this.#stopped || this.#paused) return;
      await this.#claim(shard, revisions[shard]!, shards.get(shard), workers);
    }
    if (placement.surplus === 0 || this.#stopped || this.#paused) return;
    const shard = mayRelease()[0];
    if (shard === undefined) return;
    await onRelease(shard);
  }

  /** At the revision that was looked at, not at one that has come since: that may be another's claim. */
  async #claim(
    shard: number,
    over: number,
    before: PlacedShard | undefined,
    workers: ReadonlyMap<string, PlacedWorker>,
  ): Promise<void> {
    const { list, id, incarnation, onClaimed } = this.#options;
    const key = clusterKeys.shard(shard);
    const claim = { owner: id, incarnation, at: Date.now() };
    const revision = await list.compareAndSet(key, claim, over);
    if (revision === undefined) return;
    this.#held.set(shard, revision);
    // Whatever the owner before us wrote of its session came before our claim: have it, then open.
    await list.caughtUp(revision);
    if (this.#stopped || !this.#held.has(shard)) return;
    const owner = before === undefined || before.owner === "" ? undefined : before.owner;
    onClaimed(
      shard,
      owner !== id && owner !== undefined && workers.get(owner)?.live !== true ? owner : undefined,
    );
  }

  /** The list-server was made anew: our claims are not in it. Who was faster there is told by the next turn. */
  async #reclaim(): Promise<void> {
    const { list, id, incarnation, log } = this.#options;
    for (const shard of this.held) {
      this.#held.set(shard, 0);
      const claim = { owner: id, incarnation, at: Date.now() };
      try {
        const revision = await list.compareAndSet(clusterKeys.shard(shard), claim, 0);
        if (revision !== undefined && this.#held.has(shard)) this.#held.set(shard, revision);
      } catch (error) {
        log.warn(
          { event: "claim_failed", shard, error: messageOf(error) },
          "the list-server does not answer",
        );
      }
    }
  }

  #robbed(shard: number): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#options.onRobbed(shard);
  }

  #picture(shardCount: number): {
    shards: Map<number, PlacedShard>;
    /** Of every shard's entry, also of one that was deleted. */
    revisions: number[];
    workers: Map<string, PlacedWorker>;
  } {
    const { list } = this.#options;
    const shards = new Map<number, PlacedShard>();
    const revisions: number[] = [];
    for (let shard = 0; shard < shardCount; shard += 1) {
      revisions.push(list.revisionOf(clusterKeys.shard(shard)));
      const entry = list.shard(shard);
      if (entry === undefined) continue;
      const { owner, incarnation, revision, live } = entry;
      shards.set(shard, { owner, incarnation, revision, recent: live });
    }
    const workers = new Map<string, PlacedWorker>();
    for (const worker of list.workers().values()) {
      const { id, incarnation, successor, status, live, silentMs } = worker;
      const reserved = status === "offline-temporary" && silentMs < limits.temporaryReserveMs;
      workers.set(id, { id, incarnation, successor, status, live, reserved });
    }
    return { shards, revisions, workers };
  }
}
