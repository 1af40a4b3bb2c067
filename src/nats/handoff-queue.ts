/**
 * Owns the HANDOFF stream as a worker sees it: sending to another life's subjects, receiving what is sent to ours.
 *
 * Invariants:
 * - Messages arrive in the order they were sent (one sender a move, one consumer a receiver).
 * - Sending waits for nothing. What is lost (the stream is in memory; its server may restart) shows as a hole in the
 *   move's numbers at the receiver, or as a receiver that no longer reports: the move is taken back then.
 * - A message leaves the stream by its ack, after its dispatch was committed.
 * - A receiver takes no more than it has room for: unacknowledged messages are bounded by the consumer.
 *
 * If a receiver dies its consumer ends by itself, and what was sent to it is never delivered; the stream's max_age
 * takes it out.
 */
import { AckPolicy, createInbox, DeliverPolicy, type Msg, type NatsConnection, StringCodec } from "nats";
import { messageOf } from "../core/errors.js";
import type { HandoffKind } from "../core/handoff.js";
import { limits } from "../core/limits.js";
import { handoffFilter, handoffStream, handoffSubject, kindHeader } from "../core/subjects.js";
import { ensureHandoff } from "./definitions.js";

const codec = StringCodec();

export interface HandoffDelivery {
  kind: string;
  /** The guild's id, or "_". */
  guildId: string;
  text: string;
  ack(): void;
}

/** Sends one message; `text` is its body. Throws when it is larger than the server takes, or the connection is closed. */
export function sendHandoff(
  nc: NatsConnection,
  to: string,
  guildId: string,
  kind: HandoffKind,
  text: string,
): void {
  nc.publish(handoffSubject(to, guildId), text, { headers: new KindHeader(kind) as never });
}

export class HandoffReceiver {
  readonly #nc: NatsConnection;
  readonly #life: string;
  readonly #onDelivery: (delivery: HandoffDelivery) => void;
  #consumer: string | undefined;
  #stop: () => void = () => {};

  constructor(nc: NatsConnection, life: string, onDelivery: (delivery: HandoffDelivery) => void) {
    this.#nc = nc;
    this.#life = life;
    this.#onDelivery = onDelivery;
  }

  /** Resolves once the consumer is there: from then on nothing that is sent to this life is missed. */
  async start(): Promise<void> {
    await ensureHandoff(this.#nc);
    const manager = await this.#nc.jetstreamManager({
      timeout: limits.natsRequestTimeoutMs,
      checkAPI: false,
    });
    const inbox = createInbox();
    const subscription = this.#nc.subscribe(inbox, {
      callback: (error, msg) => error === null && this.#onMessage(msg),
    });
    try {
      const consumer = await manager.consumers.add(handoffStream, {
        ack_policy: AckPolicy.Explicit,
        ack_wait: limits.handoffAckWaitMs * 1_000_000,
        deliver_policy: DeliverPolicy.All,
        deliver_subject: inbox,
        filter_subject: handoffFilter(this.#life),
        inactive_threshold: limits.handoffInactiveMs * 1_000_000,
        max_ack_pending: limits.handoffUnackedMax,
        mem_storage: true,
      });
      this.#consumer = consumer.name;
      this.#stop = () => {
        subscription.unsubscribe();
        // It would end by itself; gone at once it does not hold its subjects against a next one.
        manager.consumers.delete(handoffStream, consumer.name).catch(() => {});
      };
    } catch (error) {
      subscription.unsubscribe();
      throw error;
    }
  }

  /** Whether the server still has the consumer; a restarted one has not. */
  async isThere(): Promise<boolean> {
    if (this.#consumer === undefined) return true; // On its way.
    const manager = await this.#nc.jetstreamManager({
      timeout: limits.natsRequestTimeoutMs,
      checkAPI: false,
    });
    try {
      await manager.consumers.info(handoffStream, this.#consumer);
      return true;
    } catch (error) {
      if (/not found/i.test(messageOf(error))) return false;
      throw error;
    }
  }

  stop(): void {
    this.#stop();
    this.#stop = () => {};
  }

  #onMessage(msg: Msg): void {
    const { reply } = msg;
    if (reply === undefined || msg.data.length === 0) return;
    this.#onDelivery({
      kind: msg.headers?.get(kindHeader) ?? "",
      guildId: msg.subject.slice(msg.subject.lastIndexOf(".") + 1),
      text: codec.decode(msg.data),
      ack: () => {
        if (!this.#nc.isClosed()) this.#nc.publish(reply, "+ACK");
      },
    });
  }
}

/** One header, as text at once (NATS ADR-4); the client calls nothing but `encode`. */
class KindHeader {
  readonly #kind: HandoffKind;

  constructor(kind: HandoffKind) {
    this.#kind = kind;
  }

  encode(): Uint8Array {
    return Buffer.from(`NATS/1.0\r\n${kindHeader}: ${this.#kind}\r\n\r\n`, "latin1");
  }
}
