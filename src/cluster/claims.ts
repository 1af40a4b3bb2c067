/**
 * Owns which shards this worker holds: claims free ones up to the fair share, gives up what is above it.
 *
 * Invariants:
 * - A claim is a compare-and-set on `shard.<n>`; two workers cannot both win it. It is still only placement: a worker
 *   that lost its claim without noticing is stopped by the log's fence.
 * - A shard is taken from a worker only when that worker is gone, by the observer's clock, or is an earlier
 *   incarnation of this very worker.
 *
 * If the process dies holding shards, the others see its heartbeats end and claim them.
 */
import type { Logger } from "../core/bot.js";
import { messageOf } from "../core/errors.js";
import { limits } from "../core/limits.js";
import { clusterKeys } from "../core/subjects.js";
import type { ClusterList } from "./list.js";

export interface ClaimsOptions {
  id: string;
  incarnation: string;
  list: ClusterList;
  log: Logger;
  /** The shard is ours: open it. */
  onClaimed(shard: number): void;
  /** The shard is to go to another worker: close it resumably, checkpoint it; the claim is given up afterwards. */
  onRelease(shard: number): Promise<void>;
  /** The claim is another's already: close it at once. */
  onLost(shard: number): void;
}

export class ShardClaims {
  readonly held = new Set<number>();
  readonly #options: ClaimsOptions;
  #timer: NodeJS.Timeout | undefined;
  #turning = false;

  constructor(options: ClaimsOptions) {
    this.#options = options;
  }

  start(): void {
    this.#timer = setInterval(() => void this.#turn(), limits.claimIntervalMs);
    void this.#turn();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** Whether the list still says that the shard is ours. */
  isOurs(shard: number): boolean {
    return this.#options.list.shard(shard)?.incarnation === this.#options.incarnation;
  }

  /** Gives a shard back so that anyone may claim it: after it was closed and checkpointed. */
  async giveUp(shard: number): Promise<void> {
    this.held.delete(shard);
    if (!this.isOurs(shard)) return;
    const key = clusterKeys.shard(shard);
    const free = { owner: "", incarnation: "", at: Date.now() };
    await this.#options.list.bucket.compareAndSet(key, free, this.#options.list.revisionOf(key));
  }

  async #turn(): Promise<void> {
    if (this.#turning) return;
    this.#turning = true;
    try {
      await this.#balance();
    } catch (error) {
      this.#options.log.warn({ event: "claims_failed", error: messageOf(error) }, "cannot claim shards now");
    } finally {
      this.#turning = false;
    }
  }

  async #balance(): Promise<void> {
    const { list, id, incarnation, onClaimed, onRelease, onLost } = this.#options;
    const topology = list.topology();
    if (topology === undefined) return;
    for (const shard of this.held) {
      const entry = list.shard(shard);
      if (entry === undefined || entry.incarnation === incarnation) continue;
      this.held.delete(shard);
      onLost(shard);
    }
    const workers = list.workers();
    const sharing = [...workers.values()].filter((worker) => worker.live && takesShards(worker.status));
    if (!sharing.some((worker) => worker.id === id)) return;
    const share = Math.ceil(topology.shardCount / sharing.length);
    for (let shard = 0; shard < topology.shardCount && this.#timer !== undefined; shard += 1) {
      if (this.held.size >= share) break;
      const entry = list.shard(shard);
      if (entry !== undefined && entry.owner !== "" && entry.owner !== id) {
        const owner = workers.get(entry.owner);
        if (owner?.live && owner.incarnation === entry.incarnation) continue;
        // Its entry may be late in our picture: only silence since the claim was seen counts as death.
        if (owner === undefined && entry.live) continue;
      }
      if (entry?.incarnation === incarnation && this.held.has(shard)) continue;
      const claim = { owner: id, incarnation, at: Date.now() };
      const key = clusterKeys.shard(shard);
      if ((await list.bucket.compareAndSet(key, claim, list.revisionOf(key))) === undefined) continue;
      this.held.add(shard);
      onClaimed(shard);
    }
    if (this.held.size > share && this.#timer !== undefined) {
      const shard = Math.max(...this.held);
      await onRelease(shard);
      await this.giveUp(shard);
    }
  }
}

function takesShards(status: string): boolean {
  return status === "booting" || status === "ready";
}
