/**
 * Owns the KV bucket `cluster` as a client sees it: typed get, create, compare-and-set, watch.
 * A conflict is a value (undefined), not an exception: losing a race is ordinary here.
 * Called by src/cluster only.
 */
import { type KV, type KvEntry, type NatsConnection, StringCodec } from "nats";
import { messageOf } from "../core/errors.js";
import { clusterBucket } from "../core/subjects.js";

const codec = StringCodec();

export interface BucketEntry {
  key: string;
  /** undefined when the key was deleted. */
  value: unknown;
  revision: number;
}

export class Bucket {
  readonly #kv: KV;

  private constructor(kv: KV) {
    this.#kv = kv;
  }

  /** Binds to the bucket, which `ensureStreams` has created. */
  static async open(nc: NatsConnection): Promise<Bucket> {
    return new Bucket(await nc.jetstream().views.kv(clusterBucket, { bindOnly: true }));
  }

  async get(key: string): Promise<BucketEntry | undefined> {
    const entry = await this.#kv.get(key);
    return entry === null ? undefined : toEntry(entry);
  }

  /** Writes without a condition: for entries only their owner writes. */
  async put(key: string, value: unknown): Promise<number> {
    return this.#kv.put(key, codec.encode(JSON.stringify(value)));
  }

  /** Creates or replaces the entry at exactly this revision (0: must not exist); undefined when another was first. */
  async compareAndSet(key: string, value: unknown, revision: number): Promise<number | undefined> {
    const data = codec.encode(JSON.stringify(value));
    try {
      return revision === 0 ? await this.#kv.create(key, data) : await this.#kv.update(key, data, revision);
    } catch (error) {
      if (/wrong last sequence/i.test(messageOf(error))) return undefined;
      throw error;
    }
  }

  async delete(key: string): Promise<void> {
    await this.#kv.delete(key);
  }

  /** Calls back for every entry there is, then for every change, until stopped. Resolves once the first part is done. */
  async watch(onEntry: (entry: BucketEntry) => void): Promise<() => void> {
    let initialized: () => void = () => {};
    const initial = new Promise<void>((resolve) => {
      initialized = resolve;
    });
    const watcher = await this.#kv.watch({ initializedFn: () => initialized() });
    void (async () => {
      for await (const entry of watcher) onEntry(toEntry(entry));
    })();
    await initial;
    return () => watcher.stop();
  }
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
