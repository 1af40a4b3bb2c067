/**
 * The messages the bot created, so that they can be read, edited, deleted and matched by nonce.
 *
 * Bounded: the oldest is forgotten first. Messages of simulated users are not kept. Used by the
 * message and interaction routes.
 */
import type { APIMessage } from "discord-api-types/v10";
import { LIMITS } from "./limits.js";

export interface StoredMessage {
  message: APIMessage;
  readonly guild: number;
  /** Only the invoking user sees it: no dispatch tells of it. */
  readonly ephemeral: boolean;
}

export class MessageStore {
  readonly #byId = new Map<string, StoredMessage>();
  readonly #byNonce = new Map<string, { messageId: string; atMs: number }>();

  add(stored: StoredMessage): void {
    this.#byId.set(stored.message.id, stored);
    for (const id of this.#byId.keys()) {
      if (this.#byId.size <= LIMITS.messagesKept) break;
      this.#byId.delete(id);
    }
  }

  find(id: string): StoredMessage | undefined {
    return this.#byId.get(id);
  }

  delete(id: string): void {
    this.#byId.delete(id);
  }

  /** The newest messages of a channel, newest first. */
  ofChannel(channelId: string, limit: number): APIMessage[] {
    const found: APIMessage[] = [];
    for (const { message, ephemeral } of [...this.#byId.values()].reverse()) {
      if (found.length >= limit) break;
      if (message.channel_id === channelId && !ephemeral) found.push(message);
    }
    return found;
  }

  /** Remembers an enforced nonce for the few minutes in which Discord compares it. */
  rememberNonce(nonce: string, messageId: string): void {
    const nowMs = performance.now();
    for (const [old, { atMs }] of this.#byNonce) {
      if (nowMs - atMs <= LIMITS.nonceMs) break;
      this.#byNonce.delete(old);
    }
    this.#byNonce.set(nonce, { messageId, atMs: nowMs });
  }

  /** The message that already used this nonce in the last few minutes. */
  findByNonce(nonce: string): StoredMessage | undefined {
    const known = this.#byNonce.get(nonce);
    if (known === undefined || performance.now() - known.atMs > LIMITS.nonceMs) return undefined;
    return this.#byId.get(known.messageId);
  }
}
