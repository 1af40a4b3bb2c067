/**
 * Owns the KV bucket `cluster` as a client sees it: typed get, create, compare-and-set, delete; bucket-watch.ts follows
 * it. A conflict is a value (undefined), not an exception: losing a race is ordinary here.
 * Called by src/cluster only.
 */
import { type KV, type NatsConnection, StringCodec } from "nats";
import { assert, messageOf } from "../core/errors.js";
import { limits } from "../core/limits.js";
import { clusterBucket } from "../core/subjects.js";
import { type BucketEntry, parseValue } from "./bucket-watch.js";

const codec = StringCodec();

export class Bucket {
  readonly #kv: KV;

  private constructor(kv: KV) {
    this.#kv = kv;
  }

  /** Binds to the bucket, also for later lives of it. Rejects when it is not there. */
  static async open(nc: NatsConnection): Promise<Bucket> {
    // What a broken connection swallowed is not worth the client's 5 s: heartbeats wait behind it.
    const jetstream = nc.jetstream({ timeout: limits.listRequestTimeoutMs });
    return new Bucket(await jetstream.views.kv(clusterBucket, { bindOnly: true }));
  }

  async get(key: string): Promise<BucketEntry | undefined> {
    const entry = await this.#kv.get(key);
    if (entry === null) return undefined;
    const value = entry.operation === "PUT" ? parseValue(codec.decode(entry.value)) : undefined;
    return { key: entry.key, value, revision: entry.revision };
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
}

function isConflict(error: unknown): boolean {
  return /wrong last sequence/i.test(messageOf(error));
}
