/**
 * Owns one database node: consume -> fold -> disk -> saved, and the answers to guild requests (see recovery.md).
 *
 * Invariants:
 * - I4: `saved` is announced only after its fsync.
 * - The node starts from its own watermark, never from the server's acks, and only while the stream is the one the
 *   watermark was written for; a stream that is another one, or that rewound, makes it start over.
 * - A failing disk stops the node (`failed`): it announces nothing more and its folder stays as it was saved last.
 *
 * Used by the command line, which puts `status()` into the list-server.
 */
import { formatChecksum } from "../core/canonical.js";
import { GuildstreamError, messageOf } from "../core/errors.js";
import { isMemberId } from "../core/ids.js";
import { limits } from "../core/limits.js";
import type { DbnodeEntry, SavedAnnouncement } from "../core/members.js";
import { dbnodeSubjects } from "../core/subjects.js";
import { openStore, type QuarantineEntry, type Store, type Watermark } from "../disk/store.js";
import type { NatsConnection } from "../nats/connect.js";
import { type Delivery, GuildConsumer } from "../nats/consumer.js";
import { type StreamInfo, storedTimeNs, streamInfoInTime } from "../nats/stream-info.js";
import { Documents } from "./documents.js";
import { Folding } from "./folding.js";
import { GetServer } from "./get-server.js";
import type { NodeLog } from "./node-log.js";
import { Saver } from "./saver.js";

export interface DbnodeOptions {
  id: string;
  nc: NatsConnection;
  dataDir: string;
  log: NodeLog;
  cacheBytes?: number;
}

/** The node's part of its list-server entry. */
export type DbnodeStatus = Pick<
  DbnodeEntry,
  "received" | "saved" | "streamLast" | "streamCreated" | "guilds" | "quarantined" | "checksum"
>;

/**
 * Runs a database node; resolves once it is consuming.
 * @throws GuildstreamError CONFIG_INVALID, DATA_DIR_IN_USE, DISK_FULL, DISK_FAILED
 */
export async function runDbnode(options: DbnodeOptions): Promise<Dbnode> {
  if (!isMemberId(options.id)) {
    throw new GuildstreamError("CONFIG_INVALID", `"${options.id}" cannot name a database node`, {
      hint: "use up to 64 letters, digits, - or _",
    });
  }
  const node = new Dbnode(options, await openStore(options.dataDir));
  try {
    await node.start();
    return node;
  } catch (error) {
    await node.stop();
    throw error;
  }
}

export class Dbnode {
  /** Rejects when the node cannot go on, with a coded error; never resolves. */
  readonly failed: Promise<never>;
  readonly #options: DbnodeOptions;
  readonly #store: Store;
  readonly #documents: Documents;
  readonly #folding: Folding;
  readonly #saver: Saver;
  readonly #consumer: GuildConsumer;
  #getServer: GetServer | undefined;
  #fail!: (error: unknown) => void;
  #hasFailed = false;
  #held = false;
  #waiting: Delivery[] = [];
  #pending = 0;
  #streamLast = 0;
  #stopped: Promise<void> | undefined;

  constructor(options: DbnodeOptions, store: Store) {
    const { id, nc, log } = options;
    this.#options = options;
    this.#store = store;
    this.failed = new Promise((_, reject) => {
      this.#fail = reject;
    });
    this.failed.catch(() => {}); // Heard by whoever runs the node; it must not end the process by itself.
    this.#documents = new Documents(store, options.cacheBytes);
    const { saved, savedTimeNs } = store.watermark;
    this.#folding = new Folding(this.#documents, { seq: saved, timeNs: savedTimeNs }, (entry) =>
      log.warn(entry, "quarantined a message of the log"),
    );
    this.#saver = new Saver({
      store,
      documents: this.#documents,
      folding: this.#folding,
      holdFolding: () => this.#hold(),
      onSaved: (watermark) => this.#onSaved(watermark),
      onFailure: (error) => this.#onFailure(error),
    });
    this.#consumer = new GuildConsumer({
      nc,
      id,
      startAfter: () => this.#startAfter(),
      onBatch: (deliveries, pending) => this.#onBatch(deliveries, pending),
      room: () => this.#room(),
      onTrouble: (fields, message) => log.warn(fields, message),
    });
  }

  async start(): Promise<void> {
    const { id, nc, log } = this.#options;
    await Promise.race([this.#consumer.start(), this.failed]);
    this.#getServer = new GetServer({
      nc,
      id,
      log,
      documents: this.#documents,
      store: this.#store,
      folded: () => this.#folding.seq,
    });
    await nc.flush(); // Whoever hears of this node from here on can ask it.
    const { saved, guildCount } = this.#store.watermark;
    log.info({ id, saved, guilds: guildCount, dataDir: this.#options.dataDir }, "database node runs");
    this.#announce();
  }

  status(): DbnodeStatus {
    const { saved, streamCreated, checksum, guildCount } = this.#store.watermark;
    const received = this.#folding.seq;
    return {
      received,
      saved,
      streamLast: Math.max(this.#streamLast, received + this.#pending + this.#waiting.length),
      streamCreated,
      guilds: guildCount,
      quarantined: this.#store.quarantined + this.#folding.quarantined,
      checksum: formatChecksum(checksum),
    };
  }

  /** The quarantine as saved, oldest first. */
  quarantineList(): QuarantineEntry[] {
    return this.#store.quarantineList();
  }

  /** Takes nothing new, saves and announces what it holds, lets the folder go. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async #stop(): Promise<void> {
    await this.#consumer.stop();
    await this.#saver.drain();
    this.#getServer?.stop();
    if (!this.#options.nc.isClosed()) await this.#options.nc.flush().catch(() => {});
    await this.#store.close();
  }

  /** Where the consumer starts: after what was folded, if this is still the stream that it was folded from. */
  async #startAfter(): Promise<number> {
    try {
      await this.#saver.drain();
      const stream = await this.#askStream();
      const reason = await this.#whyNotOurs(stream);
      if (reason !== undefined) {
        const { saved, streamCreated } = this.#store.watermark;
        this.#options.log.error(
          { reason, saved, streamCreated, stream },
          "THE STREAM IS NOT WHAT THIS NODE HAD SAVED: starting over from its first message",
        );
        // If the process dies here the next start finds the same mismatch, or an empty store.
        await this.#store.reset();
        this.#folding.reset();
      }
      if (this.#store.watermark.streamCreated !== stream.created) {
        const watermark = { ...this.#store.watermark, streamCreated: stream.created };
        await this.#store.writeBatch({ documents: [], quarantine: [], watermark });
      }
      this.#streamLast = stream.lastSeq;
      if (reason !== undefined) this.#announce();
      return this.#folding.seq;
    } catch (error) {
      if (error instanceof GuildstreamError && error.code.startsWith("DISK_")) this.#onFailure(error);
      throw error;
    }
  }

  /** Patiently: to start over is much work, and a replica that lags must not cause it. */
  #askStream(): Promise<StreamInfo> {
    const { nc, log } = this.#options;
    const { streamCreated } = this.#store.watermark;
    const { seq } = this.#folding;
    return streamInfoInTime({
      nc,
      known: streamCreated === "" || seq === 0 ? undefined : { created: streamCreated, lastSeq: seq },
      isStopped: () => this.#stopped !== undefined || this.#hasFailed,
      onTrouble: (fields, message) => log.warn(fields, message),
    });
  }

  /** Sequences compare only within one life of the stream, and only while it has not lost its tail. */
  async #whyNotOurs(stream: StreamInfo): Promise<string | undefined> {
    const { streamCreated } = this.#store.watermark;
    const { seq, timeNs } = this.#folding;
    if (streamCreated === "" || seq === 0) return undefined;
    if (streamCreated !== stream.created) return `the stream was made anew at ${stream.created}`;
    if (stream.lastSeq < seq) return `the stream ends at ${stream.lastSeq}, before ${seq}`;
    // It may have lost its tail and grown past it again: then another message has our number.
    const actual = await storedTimeNs(this.#options.nc, seq);
    if (actual === undefined || actual === timeNs) return undefined;
    return `message ${seq} was stored at ${actual} ns, not at ${timeNs} ns: the stream lost its tail`;
  }

  #room(): number {
    if (this.#hasFailed || this.#documents.dirtyBytes >= limits.unsavedBytesMax) return 0;
    return limits.unsavedMessagesMax - this.#folding.unsaved - this.#waiting.length;
  }

  #onBatch(deliveries: Delivery[], pending: number): void {
    if (this.#hasFailed) return;
    this.#pending = pending;
    if (this.#held) {
      for (const delivery of deliveries) this.#waiting.push(delivery);
    } else {
      this.#fold(deliveries);
    }
  }

  #fold(deliveries: Delivery[]): void {
    this.#folding.foldAll(deliveries);
    this.#consumer.ack();
    this.#getServer?.progress();
    this.#saver.kick(this.#pending > limits.batchMessagesMax);
  }

  #hold(): () => void {
    this.#held = true;
    return () => {
      this.#held = false;
      const waiting = this.#waiting;
      this.#waiting = [];
      if (waiting.length > 0) this.#fold(waiting);
    };
  }

  #onSaved(watermark: Watermark): void {
    if (watermark.saved > this.#streamLast) this.#streamLast = watermark.saved;
    this.#announce();
    this.#consumer.poke();
  }

  #announce(): void {
    const { id, nc, log } = this.#options;
    const { saved, streamCreated } = this.#store.watermark;
    if (nc.isClosed()) return;
    try {
      const announcement: SavedAnnouncement = { id, saved, streamCreated };
      nc.publish(dbnodeSubjects.saved(id), JSON.stringify(announcement));
    } catch (error) {
      // The next announcement, or the list-server's entry, says the same.
      log.debug({ error: messageOf(error) }, "an announcement was not sent");
    }
  }

  #onFailure(error: unknown): void {
    if (this.#hasFailed) return;
    this.#hasFailed = true;
    this.#options.log.error({ error: messageOf(error) }, "the database node cannot go on");
    void this.#consumer.stop();
    this.#fail(error);
  }
}
