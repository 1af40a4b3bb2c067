/**
 * Owns following the list-server's bucket: every entry there is, then every change, whatever becomes of the server
 * that sends them.
 *
 * Invariants:
 * - Of each key only newer revisions are told, each once: an old one told again would look like a sign of life.
 * - After a silence, a hole or a reconnect the whole bucket is listed again: the consumer behind a watch lives on one
 *   server, and is gone with it.
 * - A bucket made anew, or rewound, is told of (`onRenewed`) before its first entry; otherwise revisions never fall.
 * - A bucket that is gone is made again by `prepare`, which is called before every listing.
 *
 * Nothing is kept on the server beyond a few seconds: if the process dies, its consumer is removed. Called by the
 * list of the cluster (cluster/list.ts).
 */
import {
  AckPolicy,
  type ConsumerConfig,
  createInbox,
  DeliverPolicy,
  Events,
  type Msg,
  type NatsConnection,
  StringCodec,
} from "nats";
import { limits } from "../core/limits.js";
import { clusterBucket } from "../core/subjects.js";
import { parseAckSubject } from "./ack-subject.js";
import { streamInfoInTime } from "./stream-info.js";

export interface BucketEntry {
  key: string;
  /** undefined when the key was deleted. */
  value: unknown;
  revision: number;
}

export interface BucketWatchOptions {
  nc: NatsConnection;
  /** Sees to it that there is a bucket; rejects when there can be none now. */
  prepare(): Promise<void>;
  onEntry(entry: BucketEntry): void;
  /** Another bucket, or one that lost its end: revisions begin anew, entries are told again. */
  onRenewed(): void;
  /** The bucket cannot be listed now; it is tried again. */
  onTrouble(error: unknown): void;
}

const codec = StringCodec();
const stream = `KV_${clusterBucket}`;
const prefix = `$KV.${clusterBucket}.`;

export class BucketWatch {
  readonly #nc: NatsConnection;
  readonly #options: BucketWatchOptions;
  readonly #revisions = new Map<string, number>();
  #created: string | undefined;
  #lastRevision = 0;
  /** Rises with every listing: what an earlier consumer still sends is ignored. */
  #life = 0;
  #delivered = 0;
  #heardAt = 0;
  #listing: Promise<void> | undefined;
  /** The listing's own end, while entries come. */
  #telling: { done: () => void; failed: (error: Error) => void } | undefined;
  #again = false;
  #timer: NodeJS.Timeout | undefined;
  #unsubscribe: () => void = () => {};
  #stopped = false;

  constructor(options: BucketWatchOptions) {
    this.#options = options;
    this.#nc = options.nc;
  }

  /** Resolves once every entry there is has been told. */
  async start(): Promise<void> {
    void this.#watchReconnects();
    this.#timer = setInterval(() => this.#checkSilence(), limits.watchHeartbeatMs / 2);
    await this.#list();
  }

  stop(): void {
    this.#stopped = true;
    this.#life += 1;
    clearInterval(this.#timer);
    this.#unsubscribe();
    this.#telling?.failed(new Error("stopped"));
  }

  /** Lists the bucket anew; calls during a listing make it list once more after. */
  #list(): Promise<void> {
    this.#again = true;
    this.#listing ??= this.#listLoop().finally(() => {
      this.#listing = undefined;
    });
    return this.#listing;
  }

  async #listLoop(): Promise<void> {
    while (this.#again && !this.#stopped) {
      this.#again = false;
      try {
        await this.#listOnce();
      } catch (error) {
        if (this.#stopped) return;
        this.#options.onTrouble(error);
        this.#again = true;
        await new Promise((resolve) => setTimeout(resolve, limits.consumerRetryMs));
      }
    }
  }

  async #listOnce(): Promise<void> {
    this.#unsubscribe();
    await this.#options.prepare();
    await this.#checkLife();
    if (this.#stopped) return;
    const life = ++this.#life;
    this.#delivered = 0;
    const told = new Promise<void>((resolve, reject) => {
      this.#telling = { done: resolve, failed: reject };
    });
    told.catch(() => {}); // It may fail while the consumer is being made; it is awaited after that.
    const inbox = createInbox();
    const subscription = this.#nc.subscribe(inbox, {
      callback: (error, msg) => {
        if (error === null && life === this.#life) this.#onMessage(msg);
      },
    });
    this.#unsubscribe = () => subscription.unsubscribe();
    this.#heardAt = performance.now();
    try {
      const manager = await this.#nc.jetstreamManager({
        timeout: limits.natsRequestTimeoutMs,
        checkAPI: false,
      });
      const { num_pending: pending, delivered } = await manager.consumers.add(stream, consumerConfig(inbox));
      if (pending + delivered.consumer_seq === 0) this.#telling?.done();
      await told;
    } finally {
      this.#telling = undefined;
    }
  }

  /** Revisions compare only within one life of the bucket, and only while it has not lost its end. */
  async #checkLife(): Promise<void> {
    const before = this.#created;
    const deadlineAt = performance.now() + limits.listOpenTimeoutMs;
    const { created, lastSeq } = await streamInfoInTime({
      nc: this.#nc,
      stream,
      known: before === undefined ? undefined : { created: before, lastSeq: this.#lastRevision },
      // Deleted since it was prepared: from the start again.
      isStopped: () => this.#stopped || performance.now() > deadlineAt,
      onTrouble: () => {},
    });
    this.#created = created;
    if (before === undefined || (created === before && lastSeq >= this.#lastRevision)) return;
    this.#revisions.clear();
    this.#lastRevision = 0;
    this.#options.onRenewed();
  }

  #onMessage(msg: Msg): void {
    this.#heardAt = performance.now();
    const reply = msg.reply;
    if (reply === undefined || !reply.startsWith("$JS.ACK.")) {
      // A heartbeat: it says how much was sent, so that what got lost at the end is missed as well.
      const sent = msg.headers?.get("Nats-Last-Consumer");
      if (sent !== undefined && sent !== "" && Number(sent) !== this.#delivered) this.#broken("a hole");
      return;
    }
    const { delivered, seq, pending } = parseAckSubject(reply);
    if (delivered !== this.#delivered + 1) {
      this.#broken("a hole");
      return;
    }
    this.#delivered = delivered;
    this.#tell(msg, seq);
    if (pending === 0) this.#telling?.done();
  }

  #tell(msg: Msg, revision: number): void {
    const key = msg.subject.slice(prefix.length);
    if (revision <= (this.#revisions.get(key) ?? 0)) return;
    this.#revisions.set(key, revision);
    if (revision > this.#lastRevision) this.#lastRevision = revision;
    const deleted = msg.headers?.get("KV-Operation");
    this.#options.onEntry({ key, value: deleted ? undefined : parseValue(codec.decode(msg.data)), revision });
  }

  #checkSilence(): void {
    const silentMs = performance.now() - this.#heardAt;
    if (silentMs >= limits.watchHeartbeatMs * 2.5) this.#broken("silence");
  }

  /** What this consumer still sends is worth nothing; a listing that has not got its consumer yet goes on. */
  #broken(why: string): void {
    if (this.#telling !== undefined) this.#telling.failed(new Error(why));
    else if (this.#listing !== undefined) return;
    else void this.#list();
    this.#life += 1;
  }

  async #watchReconnects(): Promise<void> {
    for await (const status of this.#nc.status()) {
      if (this.#stopped) return;
      if (status.type === Events.Reconnect) void this.#list();
    }
  }
}

/** It lives on one of the bucket's servers, in memory. */
function consumerConfig(inbox: string): Partial<ConsumerConfig> {
  return {
    deliver_subject: inbox,
    deliver_policy: DeliverPolicy.LastPerSubject,
    filter_subject: `${prefix}>`,
    ack_policy: AckPolicy.None,
    idle_heartbeat: limits.watchHeartbeatMs * 1_000_000,
    inactive_threshold: limits.watchHeartbeatMs * 10 * 1_000_000,
    mem_storage: true,
    num_replicas: 1,
  };
}

/** Garbage put by hand counts as absent; its revision still guards the next write. */
export function parseValue(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
