/**
 * Owns the KV bucket `cluster` as a client sees it: typed get, create, compare-and-set, watch.
 * A conflict is a value (undefined), not an exception: losing a race is ordinary here.
 *
 * One object is one life of the bucket. A bucket that was deleted and made anew numbers its revisions from 1 again, and
 * a watch on the old one stays silent for ever: `endOf` tells, and whoever holds this opens another.
 * Called by src/cluster only.
 */
import { type KV, type KvEntry, type NatsConnection, StringCodec } from "nats";
import { assert, messageOf } from "../core/errors.js";
import { limits } from "../core/limits.js";
import { clusterBucket } from "../core/subjects.js";

const codec = StringCodec();
const streamName = `KV_${clusterBucket}`;

export interface BucketEntry {
  key: string;
  /** undefined when the key was deleted. */
  value: unknown;
  revision: number;
}

/** The bucket's life and its last revision. */
export interface BucketEnd {
  created: string;
  lastRevision: number;
}

export class Bucket {
  readonly #kv: KV;
  /** When this life of the bucket began. */
  readonly created: string;

  private constructor(kv: KV, created: string) {
    this.#kv = kv;
    this.created = created;
  }

  /** Binds to the bucket, which `ensureStreams` has created. Rejects when it is not there. */
  static async open(nc: NatsConnection): Promise<Bucket> {
    const { created } = await Bucket.endOf(nc);
    return new Bucket(await nc.jetstream().views.kv(clusterBucket, { bindOnly: true }), created);
  }

  /** What the server says of the bucket now; rejects when there is none or nobody answers. */
  static async endOf(nc: NatsConnection): Promise<BucketEnd> {
    const manager = await nc.jetstreamManager({ timeout: limits.natsRequestTimeoutMs, checkAPI: false });
    const info = await manager.streams.info(streamName);
    return { created: info.created, lastRevision: info.state.last_seq };
  }

  async get(key: string): Promise<BucketEntry | undefined> {
    const entry = await this.#kv.get(key);
    return entry === null ? undefined : toEntry(entry);
  }

  /** Creates or replaces the entry at exactly this revision (0: must not exist); undefined when another was first. */
  async compareAndSet(key: string, value: unknown, revision: number): Promise<number | undefined> {
    const data = codec.encode(JSON.stringify(value));
    try {
      return revision === 0 ? await this.#kv.create(key, data) : await this.#kv.update(key, data, revision);
    } catch (error) {
      if (isConflict(error)) return undefined;
      throw error;
    }
  }

  /** Deletes the entry at exactly this revision; false when another was first. */
  async delete(key: string, revision: number): Promise<boolean> {
    assert(revision > 0, "a delete names what it deletes: the client takes 0 for no condition");
    try {
      await this.#kv.delete(key, { previousSeq: revision });
      return true;
    } catch (error) {
      if (isConflict(error)) return false;
      throw error;
    }
  }

  /** Calls back for every entry there is, then for every change, until stopped. Resolves once the first part is done. */
  async watch(onEntry: (entry: BucketEntry) => void, onEnd: (error: unknown) => void): Promise<() => void> {
    let stopped = false;
    let initialized: () => void = () => {};
    const initial = new Promise<void>((resolve) => {
      initialized = resolve;
    });
    const watcher = await this.#kv.watch({ initializedFn: () => initialized() });
    const follow = async (): Promise<void> => {
      for await (const entry of watcher) if (!stopped) onEntry(toEntry(entry));
    };
    const ended = follow().then(
      () => undefined,
      (error: unknown) => error,
    );
    void ended.then((error) => {
      if (!stopped) onEnd(error);
    });
    await Promise.race([initial, ended]);
    return () => {
      stopped = true;
      watcher.stop();
    };
  }
}

function isConflict(error: unknown): boolean {
  return /wrong last sequence/i.test(messageOf(error));
}

function toEntry(entry: KvEntry): BucketEntry {
  let value: unknown;
  if (entry.operation === "PUT") {
    try {
      value = JSON.parse(codec.decode(entry.value));
    } catch {
      value = undefined; // Garbage put by hand counts as absent; its revision still guards the next write.
    }
  }
  return { key: entry.key, value, revision: entry.revision };
}
