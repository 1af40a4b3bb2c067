/**
 * Owns the shards of one life: the ones that are served, the ones on their way here, and what they sum up to.
 *
 * Invariants:
 * - A shard is served, or on its way here, or neither; never twice.
 * - When a shard goes, its guilds leave memory with it.
 *
 * If the process dies, this is gone; the list has every checkpoint. Called by the worker's life.
 */
import { assert } from "../core/errors.js";
import type { Guilds } from "./guilds.js";
import type { ShardRunner } from "./shard-runner.js";

export interface ShardsOptions {
  guilds: Guilds;
  /** A runner, not connected; `isReceived`: another worker has the session and will hand it over. */
  makeRunner(shard: number, isReceived: boolean): ShardRunner;
}

export class Shards {
  readonly #options: ShardsOptions;
  readonly #served = new Map<number, ShardRunner>();
  readonly #incoming = new Map<number, ShardRunner>();
  /** Counts of the shards that have gone, so that the totals never fall. */
  readonly #gone = { identifies: 0, resumes: 0 };

  constructor(options: ShardsOptions) {
    this.#options = options;
  }

  /** Those that are served, in order. */
  get ids(): number[] {
    return [...this.#served.keys()].sort((a, b) => a - b);
  }

  /** The ones that are not connected; those that wait for leave to IDENTIFY among them. */
  get offline(): { connecting: number[]; paused: number[] } {
    const off = this.ids.filter((shard) => !this.#served.get(shard)!.isConnected);
    const isPaused = (shard: number): boolean => this.#served.get(shard)!.isPaused;
    return { connecting: off.filter((shard) => !isPaused(shard)), paused: off.filter(isPaused) };
  }

  /** The ones that are connected: between IDENTIFY and READY a shard that is given away would lose its session. */
  get connected(): number[] {
    return this.ids.filter((shard) => this.#served.get(shard)!.isConnected);
  }

  get counts(): { identifies: number; resumes: number; queued: number } {
    const total = { ...this.#gone, queued: 0 };
    for (const runner of this.#served.values()) {
      total.queued += runner.queued;
      total.identifies += runner.counts.identifies;
      total.resumes += runner.counts.resumes;
    }
    return total;
  }

  get(shard: number): ShardRunner | undefined {
    return this.#served.get(shard);
  }

  isIncoming(shard: number): boolean {
    return this.#incoming.has(shard);
  }

  /** Serves a shard that was claimed. */
  open(shard: number): void {
    assert(!this.#served.has(shard), `shard ${shard} is open`);
    const runner = this.#options.makeRunner(shard, false);
    this.#served.set(shard, runner);
    runner.connect();
  }

  /** A runner for a shard that another worker will hand over; the same one when it was asked for before. */
  expect(shard: number): ShardRunner {
    const expected = this.#incoming.get(shard);
    if (expected !== undefined) return expected;
    const runner = this.#options.makeRunner(shard, true);
    this.#incoming.set(shard, runner);
    return runner;
  }

  /** It was handed over: it is served from here on, and may make a session of its own should this one end. */
  received(shard: number): void {
    const runner = this.#incoming.get(shard)!;
    this.#incoming.delete(shard);
    this.#served.set(shard, runner);
    runner.allowIdentify();
  }

  /** It will not be handed over. */
  unexpect(shard: number): void {
    void this.#incoming.get(shard)?.abandon();
    this.#incoming.delete(shard);
    this.#options.guilds.dropShard(shard);
  }

  /** All that are on their way here. */
  get expected(): number[] {
    return [...this.#incoming.keys()];
  }

  /** Takes the shard out; the caller has closed its runner, or does. */
  forget(shard: number): void {
    const counts = this.#served.get(shard)?.counts;
    this.#gone.identifies += counts?.identifies ?? 0;
    this.#gone.resumes += counts?.resumes ?? 0;
    this.#served.delete(shard);
    this.#options.guilds.dropShard(shard);
  }
}
