/**
 * Owns a database node's durable pull consumer on the guild log: (re)creating it, pulling, receipts.
 *
 * Invariants:
 * - Messages come in stream order, none left out. Deliveries are numbered by the server; a hole in the numbers (lost
 *   with a connection or a server, redelivered out of order) makes the consumer start again right after what was handed
 *   on. With replicas its leader may change: the next one goes on with the numbers as far as it had heard of them.
 * - Where to start is asked of the node at every (re)creation: the server's memory of acks is never trusted, since it
 *   regresses and lies after crashes. If the process dies here, the next start asks again.
 * - No more is pulled than the node has room for.
 *
 * The hot path makes one small object a message: no promise, no timer. Used by the database node.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import {
  type ConsumerConfig,
  createInbox,
  Events,
  type JetStreamManager,
  type Msg,
  type NatsConnection,
  type Subscription,
} from "nats";
import { messageOf } from "../core/errors.js";
import { limits } from "../core/limits.js";
import { guildsStream, kindHeader } from "../core/subjects.js";
import { parseAckSubject } from "./ack-subject.js";
import { packageRoot } from "./definitions.js";

/** One message of the log. */
export interface Delivery {
  subject: string;
  seq: number;
  kind: string | undefined;
  text: string;
  /** When the stream stored it, in Unix nanoseconds. */
  timeNs: string;
}

export interface GuildConsumerOptions {
  nc: NatsConnection;
  id: string;
  /** After which sequence to start; called before every creation. */
  startAfter: () => Promise<number>;
  /** Messages in order; `pending` is how many the stream has beyond them. */
  onBatch: (deliveries: Delivery[], pending: number) => void;
  /** How many messages the node would take now; `poke` when there is more room. */
  room: () => number;
  /** Something an operator should know; the consumer goes on by itself. */
  onTrouble: (fields: object, message: string) => void;
}

interface Pull {
  inbox: string;
  left: number;
}

export class GuildConsumer {
  readonly name: string;
  readonly #options: GuildConsumerOptions;
  readonly #nc: NatsConnection;
  #manager: JetStreamManager | undefined;
  #subscription: Subscription | undefined;
  #inbox = "";
  #pulls: Pull[] = [];
  #nextPull = 1;
  #buffer: Delivery[] = [];
  #scheduled = false;
  #pending = 0;
  #delivered = 0;
  /** Of the stream, of the newest delivery. */
  #lastSeq = 0;
  #lastReply = "";
  #heardAt = 0;
  #timer: NodeJS.Timeout | undefined;
  #starting: Promise<void> | undefined;
  #again = false;
  #closed = false;

  constructor(options: GuildConsumerOptions) {
    this.#options = options;
    this.#nc = options.nc;
    this.name = `dbnode-${options.id}`;
  }

  /** Resolves once the consumer is there and pulling; waits for the stream as long as it takes. */
  async start(): Promise<void> {
    void this.#watchReconnects();
    this.#timer = setInterval(() => this.#checkHeartbeat(), limits.pullHeartbeatMs);
    await this.#restart();
  }

  /** Pulls what there is room for; called when the node has made room. */
  poke(): void {
    if (this.#starting !== undefined || this.#subscription === undefined || this.#closed) return;
    let wanted = this.#options.room() - this.#buffer.length;
    for (const pull of this.#pulls) wanted -= pull.left;
    while (wanted >= 1 && this.#pulls.length < 2) {
      // A request for a handful costs as much as one for many: small remainders wait.
      if (this.#pulls.length === 1 && wanted < limits.pullMessagesMax / 2) return;
      const batch = Math.min(wanted, limits.pullMessagesMax);
      this.#pull(batch);
      wanted -= batch;
    }
  }

  /** The receipt: all handed on so far is in memory and checked. One ack covers everything before it. */
  ack(): void {
    if (this.#lastReply === "" || this.#closed) return;
    this.#nc.publish(this.#lastReply, "+ACK");
    this.#lastReply = "";
  }

  /** Takes nothing more. The durable consumer stays on the server, for whoever looks at it; it is remade at start. */
  async stop(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#timer);
    this.#subscription?.unsubscribe();
    this.#subscription = undefined;
    await this.#starting?.catch(() => {});
  }

  /** Starts anew from the node's own word; calls during a start make it start once more after. */
  #restart(): Promise<void> {
    this.#again = true;
    this.#starting ??= this.#startLoop().finally(() => {
      this.#starting = undefined;
      this.poke();
    });
    return this.#starting;
  }

  async #startLoop(): Promise<void> {
    while (this.#again && !this.#closed) {
      this.#again = false;
      try {
        await this.#create();
      } catch (error) {
        if (this.#closed) return;
        this.#options.onTrouble(
          { consumer: this.name, error: messageOf(error) },
          "the guild log does not answer",
        );
        this.#again = true;
        await new Promise((resolve) => setTimeout(resolve, limits.consumerRetryMs));
      }
    }
  }

  async #create(): Promise<void> {
    this.#subscription?.unsubscribe();
    this.#subscription = undefined;
    this.#flushBuffer();
    this.#pulls = [];
    this.#delivered = 0;
    this.#lastSeq = 0;
    this.#lastReply = "";
    const startAfter = await this.#options.startAfter();
    this.#manager ??= await this.#nc.jetstreamManager({
      timeout: limits.natsRequestTimeoutMs,
      checkAPI: false,
    });
    try {
      await this.#manager.consumers.delete(guildsStream, this.name);
    } catch (error) {
      if (!/not found/i.test(messageOf(error))) throw error;
    }
    await this.#manager.consumers.add(guildsStream, {
      ...(await this.#definition()),
      durable_name: this.name,
      opt_start_seq: startAfter + 1,
    });
    if (this.#closed) return;
    this.#inbox = createInbox();
    const inbox = this.#inbox;
    this.#subscription = this.#nc.subscribe(`${inbox}.*`, {
      callback: (error, msg) => {
        if (error === null && inbox === this.#inbox) this.#onMessage(msg);
      },
    });
    this.#heardAt = performance.now();
  }

  /** As in streams/, where it can be read and used by hand as well. */
  async #definition(): Promise<ConsumerConfig> {
    const text = await readFile(join(packageRoot(), "streams", "dbnode-consumer.json"), "utf8");
    return JSON.parse(text) as ConsumerConfig;
  }

  #pull(batch: number): void {
    const pull = { inbox: `${this.#inbox}.${this.#nextPull}`, left: batch };
    this.#nextPull += 1;
    if (this.#pulls.length === 0) this.#heardAt = performance.now();
    this.#pulls.push(pull);
    const request = {
      batch,
      max_bytes: limits.pullBytesMax,
      expires: limits.pullExpiresMs * 1_000_000,
      idle_heartbeat: limits.pullHeartbeatMs * 1_000_000,
    };
    this.#nc.publish(`$JS.API.CONSUMER.MSG.NEXT.${guildsStream}.${this.name}`, JSON.stringify(request), {
      reply: pull.inbox,
    });
  }

  #onMessage(msg: Msg): void {
    this.#heardAt = performance.now();
    const reply = msg.reply;
    if (reply === undefined || !reply.startsWith("$JS.ACK.")) {
      this.#onStatus(msg);
      return;
    }
    const { seq, delivered, timeNs, pending } = parseAckSubject(reply);
    if (delivered !== this.#delivered + 1) {
      // A new leader of the consumer may give numbers once more: harmless for what came before, a hole otherwise.
      if (delivered <= this.#delivered && seq <= this.#lastSeq) return;
      this.#options.onTrouble(
        { delivered, expected: this.#delivered + 1, seq },
        "deliveries lost, starting again",
      );
      void this.#restart();
      return;
    }
    this.#delivered = delivered;
    this.#lastSeq = seq;
    this.#pending = pending;
    this.#lastReply = reply;
    const data = msg.data;
    this.#buffer.push({
      subject: msg.subject,
      seq,
      kind: msg.headers?.get(kindHeader) || undefined,
      text: Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("utf8"),
      timeNs,
    });
    const pull = this.#pulls[0];
    if (pull !== undefined) {
      pull.left -= 1;
      if (pull.left === 0) this.#pulls.shift();
    }
    if (!this.#scheduled) {
      // What one read of the socket brought is handed on together.
      this.#scheduled = true;
      setImmediate(() => {
        this.#scheduled = false;
        this.#flushBuffer();
        this.poke();
      });
    }
  }

  #flushBuffer(): void {
    if (this.#buffer.length === 0 || this.#closed) return;
    const deliveries = this.#buffer;
    this.#buffer = [];
    this.#options.onBatch(deliveries, this.#pending);
  }

  /** Messages without content from the server: heartbeats and the ends of pulls. */
  #onStatus(msg: Msg): void {
    const code = msg.headers?.code ?? 0;
    if (code === 100) return;
    this.#pulls = this.#pulls.filter((pull) => pull.inbox !== msg.subject);
    const description = msg.headers?.description ?? "";
    const ordinary =
      code === 408 ||
      code === 404 ||
      (code === 409 && /batch completed|exceeds|leadership|shutdown/i.test(description));
    if (ordinary) {
      this.poke();
      return;
    }
    this.#options.onTrouble(
      { code, description, consumer: this.name },
      "the consumer ended, making it again",
    );
    setTimeout(() => void this.#restart(), limits.consumerRetryMs).unref();
  }

  #checkHeartbeat(): void {
    if (this.#starting !== undefined || this.#pulls.length === 0 || this.#nc.isClosed()) return;
    const silentMs = performance.now() - this.#heardAt;
    if (silentMs < limits.pullHeartbeatMs * 2.5) return;
    this.#options.onTrouble(
      { silentMs, consumer: this.name },
      "no heartbeat from the consumer, making it again",
    );
    void this.#restart();
  }

  async #watchReconnects(): Promise<void> {
    for await (const status of this.#nc.status()) {
      if (this.#closed) return;
      // What was on its way when the connection broke is not sent again before ack_wait: start after what arrived.
      if (status.type === Events.Reconnect) void this.#restart();
    }
  }
}
