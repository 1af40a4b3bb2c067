/**
 * Owns this process' picture of the list-server and its own entry in it (design: "the list-server").
 *
 * Invariants:
 * - The list places work; it never proves ownership: the log's fence does.
 * - A member is live while its heartbeats come, timed by the observer's own clock since the last one it saw. Time in
 *   which nothing at all came, not even our own heartbeat, tells of the list-server and kills nobody.
 * - An entry that fails its schema is ignored.
 * - A member id is held by one incarnation; a second one is refused by name while the first beats.
 *
 * Called by the roles (announce), the claims and the operator's views.
 */
import type { z } from "zod";
import type { Logger } from "../core/bot.js";
import { GuildstreamError, messageOf } from "../core/errors.js";
import { limits } from "../core/limits.js";
import {
  type DbnodeEntry,
  dbnodeEntry,
  type SessionEntry,
  type ShardEntry,
  sessionEntry,
  shardEntry,
  type TopologyEntry,
  topologyEntry,
  type WorkerEntry,
  workerEntry,
} from "../core/members.js";
import { clusterKeys } from "../core/subjects.js";
import { Bucket, type BucketEntry } from "../nats/bucket.js";
import type { NatsConnection } from "../nats/connect.js";

/** An entry, its revision for compare-and-set, and whether its member's heartbeats still come. */
export type Listed<T> = T & { revision: number; live: boolean };

interface Observed {
  entry: BucketEntry;
  /** The observer's clock when the entry last changed. */
  seenAt: number;
  beats: number;
}

export class ClusterList {
  readonly bucket: Bucket;
  readonly #log: Logger;
  readonly #observed = new Map<string, Observed>();
  readonly #listeners = new Set<(key: string) => void>();
  #stopWatch: () => void = () => {};
  #lastNewsAt = performance.now();
  #heartbeat: { timer: NodeJS.Timeout; beat: () => Promise<void>; key: string } | undefined;

  private constructor(bucket: Bucket, log: Logger) {
    this.bucket = bucket;
    this.#log = log;
  }

  /** Opens the bucket and holds a picture of it that follows every change. */
  static async open(nc: NatsConnection, log: Logger): Promise<ClusterList> {
    const list = new ClusterList(await Bucket.open(nc), log);
    list.#stopWatch = await list.bucket.watch((entry) => list.#observe(entry));
    return list;
  }

  stop(): void {
    if (this.#heartbeat !== undefined) clearInterval(this.#heartbeat.timer);
    this.#heartbeat = undefined;
    this.#stopWatch();
  }

  /** Calls back with the key of every entry that changes. */
  onChange(listener: (key: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  workers(): Map<string, Listed<WorkerEntry>> {
    return this.#members("worker.", workerEntry);
  }

  dbnodes(): Map<string, Listed<DbnodeEntry>> {
    return this.#members("dbnode.", dbnodeEntry);
  }

  topology(): Listed<TopologyEntry> | undefined {
    return this.#read(clusterKeys.topology, topologyEntry);
  }

  shard(shard: number): Listed<ShardEntry> | undefined {
    return this.#read(clusterKeys.shard(shard), shardEntry);
  }

  session(shard: number): Listed<SessionEntry> | undefined {
    return this.#read(clusterKeys.session(shard), sessionEntry);
  }

  /** The revision to give `compareAndSet`, also of deleted or invalid entries. */
  revisionOf(key: string): number {
    return this.#observed.get(key)?.entry.revision ?? 0;
  }

  /**
   * Takes the member's entry and keeps it fresh with heartbeats until `stop` or `leave`.
   * @throws GuildstreamError MEMBER_ID_TAKEN when another incarnation of that id still beats.
   */
  async announce(key: string, entry: () => WorkerEntry | DbnodeEntry): Promise<void> {
    await this.#refuseTakenId(key, entry());
    const beat = async (): Promise<void> => {
      try {
        await this.bucket.put(key, entry());
      } catch (error) {
        this.#log.warn(
          { event: "heartbeat_failed", error: messageOf(error) },
          "the list-server does not answer",
        );
      }
    };
    await beat();
    const timer = setInterval(() => void beat(), limits.heartbeatIntervalMs);
    this.#heartbeat = { timer, beat, key };
  }

  /** Writes the entry now instead of at the next heartbeat: for changes of status. */
  async beat(): Promise<void> {
    await this.#heartbeat?.beat();
  }

  /** Takes the member out of the list: a clean leave. */
  async leave(): Promise<void> {
    if (this.#heartbeat === undefined) return;
    const { key, timer } = this.#heartbeat;
    clearInterval(timer);
    this.#heartbeat = undefined;
    await this.bucket.delete(key);
  }

  /**
   * The entry of a dead process stays in the list; one that beats belongs to somebody. On the same host the pid
   * tells at once, elsewhere two heartbeat intervals of silence do.
   */
  async #refuseTakenId(key: string, own: WorkerEntry | DbnodeEntry): Promise<void> {
    const before = this.#observed.get(key);
    const held = before?.entry.value as Partial<WorkerEntry> | undefined;
    if (before === undefined || held === undefined || held.incarnation === own.incarnation) return;
    if (held.host === own.host && typeof held.pid === "number" && !isRunning(held.pid)) return;
    const beats = before.beats;
    await new Promise((resolve) => setTimeout(resolve, limits.heartbeatIntervalMs * 2.5));
    const now = this.#observed.get(key);
    if (now === undefined || now.entry.value === undefined || now.beats === beats) return;
    throw new GuildstreamError("MEMBER_ID_TAKEN", `another process holds the id "${own.id}"`, {
      hint: `it runs on ${held.host} with pid ${held.pid}: give this one another --id, or stop that one`,
    });
  }

  #observe(entry: BucketEntry): void {
    const before = this.#observed.get(entry.key);
    const gapMs = performance.now() - this.#lastNewsAt;
    if (this.#heartbeat !== undefined && gapMs > limits.listSilenceMs) {
      for (const observed of this.#observed.values()) observed.seenAt += gapMs;
    }
    this.#lastNewsAt = performance.now();
    this.#observed.set(entry.key, { entry, seenAt: performance.now(), beats: (before?.beats ?? 0) + 1 });
    for (const listener of this.#listeners) listener(entry.key);
  }

  #members<T extends { id: string }>(prefix: string, schema: z.ZodType<T>): Map<string, Listed<T>> {
    const members = new Map<string, Listed<T>>();
    for (const key of this.#observed.keys()) {
      if (!key.startsWith(prefix)) continue;
      const member = this.#read(key, schema);
      if (member !== undefined) members.set(member.id, member);
    }
    return members;
  }

  #read<T>(key: string, schema: z.ZodType<T>): Listed<T> | undefined {
    const observed = this.#observed.get(key);
    if (observed?.entry.value === undefined) return undefined;
    const parsed = schema.safeParse(observed.entry.value);
    if (!parsed.success) return undefined;
    // Whoever beats itself sees at least that: when it does not, the picture stands still, and so does the clock.
    const now = this.#heartbeat === undefined ? performance.now() : this.#lastNewsAt;
    const live = now - observed.seenAt < limits.memberDeadMs;
    return { ...parsed.data, revision: observed.entry.revision, live };
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return pid !== process.pid;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
