/**
 * Owns this process' picture of the list-server (design: "the list-server"; membership.md draws it).
 *
 * Invariants:
 * - The list places work; it never proves ownership: the log's fence does.
 * - A member is live while its heartbeats come, timed by the observer's own clock since the last one it saw. Time in
 *   which nothing at all came, not even our own heartbeat, tells of the list-server and kills nobody.
 * - An entry that fails its schema is ignored.
 * - The picture outlives the list-server. When the bucket is gone it is made anew (by whoever may), every member writes
 *   its own part again, and until then the others' parts are remembered with revision 0: good for placing, of no use
 *   for a compare-and-set.
 *
 * Called by the roles (through membership.ts), the claims and the operator's views.
 */
import type { z } from "zod";
import type { Logger } from "../core/bot.js";
import { GuildstreamError, messageOf } from "../core/errors.js";
import {
  type IdentifyDailyEntry,
  type IdentifyTurnEntry,
  identifyDailyEntry,
  identifyTurnEntry,
} from "../core/identify.js";
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
import { Bucket } from "../nats/bucket.js";
import { type BucketEntry, BucketWatch } from "../nats/bucket-watch.js";
import type { NatsConnection } from "../nats/connect.js";
import { ensureBucket } from "../nats/definitions.js";
import { ListCache } from "./list-cache.js";
import { Membership, type OwnEntry } from "./membership.js";

/** An entry, its revision for compare-and-set, and whether its member's heartbeats still come. */
export type Listed<T> = T & { revision: number; live: boolean; silentMs: number };

export interface ListOptions {
  /** Where the last picture is kept on disk, for a boot at which the list-server does not answer. */
  cacheFile?: string;
  memberDeadMs?: number;
  memberForgetMs?: number;
}

/** A heartbeat that says nothing new of its member's place, or a change that placing depends on. */
export type ListNews = "beat" | "change";

interface Observed {
  entry: BucketEntry;
  /** The entry as its schema made it, once somebody has asked; null when it is not valid. */
  parsed?: unknown;
  /** The observer's clock when the entry last changed. */
  seenAt: number;
  beats: number;
}

export class ClusterList {
  readonly #nc: NatsConnection;
  readonly #log: Logger;
  readonly #cache: ListCache | undefined;
  readonly #memberDeadMs: number;
  readonly #memberForgetMs: number;
  readonly #observed = new Map<string, Observed>();
  readonly #listeners = new Set<(key: string, news: ListNews) => void>();
  readonly #onRebuilt = new Set<() => void>();
  #bucket: Bucket | undefined;
  readonly #watch: BucketWatch;
  #lastRevision = 0;
  #lastNewsAt = performance.now();
  #troubleSaidAt = Number.NEGATIVE_INFINITY;
  #membership: Membership | undefined;

  private constructor(nc: NatsConnection, log: Logger, options: ListOptions) {
    this.#nc = nc;
    this.#log = log;
    this.#cache = options.cacheFile === undefined ? undefined : new ListCache(options.cacheFile, log);
    this.#memberDeadMs = options.memberDeadMs ?? limits.memberDeadMs;
    this.#memberForgetMs = options.memberForgetMs ?? limits.memberForgetMs;
    this.#watch = new BucketWatch({
      nc,
      prepare: () => ensureBucket(nc),
      onEntry: (entry) => this.#observe(entry),
      onRenewed: () => this.#renewed(),
      onTrouble: (error) => this.#trouble(error),
    });
  }

  /**
   * Opens the bucket and holds a picture of it that follows every change. When the list-server does not answer in time
   * and there is a picture on disk, that one serves until it does.
   */
  static async open(nc: NatsConnection, log: Logger, options: ListOptions = {}): Promise<ClusterList> {
    const list = new ClusterList(nc, log, options);
    const opened = list.#open();
    const cached = await list.#cache?.read();
    if (cached === undefined) {
      await Promise.race([opened, nc.closed().then(() => Promise.reject(closedError()))]);
    } else if (!(await inTime(opened, limits.listOpenTimeoutMs))) {
      for (const entry of cached) list.#remember(entry);
      log.error(
        { event: "list_from_disk", entries: cached.length },
        "NO LIST-SERVER: booting from the last list on disk",
      );
    }
    return list;
  }

  stop(): void {
    this.#membership?.stop();
    this.#cache?.stop();
    this.#watch.stop();
  }

  /** Calls back with the key of every entry that changes. */
  onChange(listener: (key: string, news: ListNews) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Calls back when the bucket was made anew: whoever owns entries writes them again. */
  onRebuilt(listener: () => void): () => void {
    this.#onRebuilt.add(listener);
    return () => this.#onRebuilt.delete(listener);
  }

  workers(): Map<string, Listed<WorkerEntry>> {
    return this.#members("worker.", workerEntry);
  }

  dbnodes(): Map<string, Listed<DbnodeEntry>> {
    return this.#members("dbnode.", dbnodeEntry);
  }

  topology(): Listed<TopologyEntry> | undefined {
    return this.read(clusterKeys.topology, topologyEntry);
  }

  shard(shard: number): Listed<ShardEntry> | undefined {
    return this.read(clusterKeys.shard(shard), shardEntry);
  }

  session(shard: number): Listed<SessionEntry> | undefined {
    return this.read(clusterKeys.session(shard), sessionEntry);
  }

  /** One entry, validated; undefined when it is not there or not valid. */
  read<T>(key: string, schema: z.ZodType<T>): Listed<T> | undefined {
    const observed = this.#observed.get(key);
    if (observed?.entry.value === undefined) return undefined;
    if (observed.parsed === undefined) observed.parsed = schema.safeParse(observed.entry.value).data ?? null;
    if (observed.parsed === null) return undefined;
    const silentMs = this.#silentMs(observed);
    const { revision } = observed.entry;
    return { ...(observed.parsed as T), revision, live: silentMs < this.#memberDeadMs, silentMs };
  }

  identifyDaily(): Listed<IdentifyDailyEntry> | undefined {
    return this.read(clusterKeys.identifyDaily, identifyDailyEntry);
  }

  identifyTurn(bucket: number): Listed<IdentifyTurnEntry> | undefined {
    return this.read(clusterKeys.identify(bucket), identifyTurnEntry);
  }

  /** The revision to give `compareAndSet`, also of deleted or invalid entries. */
  revisionOf(key: string): number {
    return this.#observed.get(key)?.entry.revision ?? 0;
  }

  /** How often the entry was seen to change: a beating member's rises. */
  beatsOf(key: string): number {
    return this.#observed.get(key)?.beats ?? 0;
  }

  /** See Bucket; rejects while there is no list-server. */
  async compareAndSet(key: string, value: unknown, revision: number): Promise<number | undefined> {
    return this.#current().compareAndSet(key, value, revision);
  }

  async get(key: string): Promise<BucketEntry | undefined> {
    return this.#current().get(key);
  }

  async delete(key: string, revision: number): Promise<boolean> {
    return this.#current().delete(key, revision);
  }

  /** Resolves once the picture has everything up to this revision, or when it does not get there in time. */
  async caughtUp(revision: number): Promise<void> {
    if (this.#lastRevision >= revision) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        stop();
        resolve();
      };
      const timer = setTimeout(done, limits.listCatchUpMs);
      const stop = this.onChange(() => this.#lastRevision >= revision && done());
    });
  }

  /**
   * Takes the member's entry and keeps it fresh with heartbeats until `stop` or `leave`.
   * @throws GuildstreamError MEMBER_ID_TAKEN when another incarnation of that id still beats.
   */
  async announce(
    key: string,
    entry: () => OwnEntry,
    onTaken?: (error: GuildstreamError) => void,
  ): Promise<void> {
    this.#membership = new Membership({ list: this, log: this.#log, key, entry, onTaken });
    await this.#membership.join();
  }

  /** Writes the own entry now instead of at the next heartbeat: for changes of status. */
  async beat(): Promise<void> {
    await this.#membership?.beat();
  }

  /** Takes the member out of the list: a clean leave. */
  async leave(): Promise<void> {
    await this.#membership?.leave();
    this.#membership = undefined;
  }

  /** Ends the heartbeats and leaves the entry: for a member that will be back, or replaced. The entry's revision. */
  async pause(): Promise<number> {
    const revision = (await this.#membership?.pause()) ?? 0;
    this.#membership = undefined;
    return revision;
  }

  /**
   * Takes the place of a member that consents, or is silent: its entry, of exactly this revision, is ours from then on,
   * and the one we had is deleted. False when it has beaten since.
   */
  async succeed(
    key: string,
    entry: () => OwnEntry,
    revision: number,
    onTaken: (error: GuildstreamError) => void,
  ): Promise<boolean> {
    const successor = new Membership({ list: this, log: this.#log, key, entry, onTaken });
    if (!(await successor.joinOver(revision))) return false;
    const before = this.#membership;
    this.#membership = successor;
    await before?.leave();
    return true;
  }

  /** Takes dead members' entries out of the list, by their revision: one that beats again meanwhile stays. */
  async sweep(): Promise<void> {
    for (const member of [...this.workers().values(), ...this.dbnodes().values()]) {
      const kept = member.status === "offline-temporary" ? limits.temporaryReserveMs : 0;
      if (member.silentMs < this.#memberDeadMs + kept + this.#memberForgetMs || member.revision === 0)
        continue;
      const key = "shards" in member ? clusterKeys.worker(member.id) : clusterKeys.dbnode(member.id);
      if (!(await this.delete(key, member.revision))) continue;
      this.#log.info({ event: "member_forgotten", member: member.id }, "a dead member's entry was removed");
    }
  }

  #current(): Bucket {
    if (this.#bucket !== undefined) return this.#bucket;
    throw new GuildstreamError("LIST_AWAY", "the list-server (KV bucket cluster) does not answer");
  }

  async #open(): Promise<void> {
    await this.#watch.start();
    while (this.#bucket === undefined && !this.#nc.isClosed()) {
      try {
        this.#bucket = await Bucket.open(this.#nc);
      } catch (error) {
        this.#trouble(error);
        await new Promise((resolve) => setTimeout(resolve, limits.listRetryMs));
      }
    }
  }

  /** The bucket was made anew, or lost its end: everybody writes its own part again. */
  #renewed(): void {
    for (const observed of this.#observed.values()) observed.entry = { ...observed.entry, revision: 0 };
    this.#lastRevision = 0;
    this.#log.warn({ event: "list_rebuilt" }, "the list-server was made anew; writing our part of it again");
    // Once the listing is done: what others have written by then is known.
    setImmediate(() => {
      for (const listener of this.#onRebuilt) listener();
    });
  }

  #trouble(error: unknown): void {
    if (performance.now() - this.#troubleSaidAt < limits.listTroubleIntervalMs) return;
    this.#troubleSaidAt = performance.now();
    const text = "the list-server does not answer; going on from what is known";
    this.#log.error({ event: "list_away", error: messageOf(error) }, text);
  }

  #observe(entry: BucketEntry): void {
    const before = this.#observed.get(entry.key);
    const now = performance.now();
    const gapMs = now - this.#lastNewsAt;
    if (this.#membership !== undefined && gapMs > limits.listSilenceMs) {
      for (const observed of this.#observed.values()) observed.seenAt += gapMs;
    }
    this.#lastNewsAt = now;
    this.#lastRevision = Math.max(this.#lastRevision, entry.revision);
    this.#observed.set(entry.key, { entry, seenAt: now, beats: (before?.beats ?? 0) + 1 });
    this.#cache?.note(() => [...this.#observed.values()].map((observed) => observed.entry));
    const news = before !== undefined && isBeat(before.entry.value, entry.value) ? "beat" : "change";
    for (const listener of this.#listeners) listener(entry.key, news);
  }

  #remember(entry: BucketEntry): void {
    if (this.#observed.has(entry.key)) return;
    this.#observed.set(entry.key, { entry: { ...entry, revision: 0 }, seenAt: performance.now(), beats: 0 });
  }

  #members<T extends { id: string }>(prefix: string, schema: z.ZodType<T>): Map<string, Listed<T>> {
    const members = new Map<string, Listed<T>>();
    for (const key of this.#observed.keys()) {
      if (!key.startsWith(prefix)) continue;
      const member = this.read(key, schema);
      if (member !== undefined) members.set(member.id, member);
    }
    return members;
  }

  /** Whoever beats itself sees at least that: when it does not, the picture stands still, and so does the clock. */
  #silentMs(observed: Observed): number {
    const now = this.#membership === undefined ? performance.now() : this.#lastNewsAt;
    return Math.max(0, now - observed.seenAt);
  }
}

/** The same member, in the same status of the same life. */
function isBeat(before: unknown, after: unknown): boolean {
  const a = before as Partial<OwnEntry> | undefined;
  const b = after as Partial<OwnEntry> | undefined;
  return a?.status !== undefined && a.status === b?.status && a.incarnation === b.incarnation;
}

async function inTime(promise: Promise<void>, timeoutMs: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), timeoutMs);
  });
  try {
    return await Promise.race([promise.then(() => true as const), late]);
  } finally {
    clearTimeout(timer);
  }
}

function closedError(): GuildstreamError {
  return new GuildstreamError("NATS_UNREACHABLE", "the connection to NATS closed while the list was opened");
}
