/**
 * One gateway session: its identity, its numbered stream of dispatches, and how much of it arrived.
 *
 * Invariants: `s` rises by exactly 1 per dispatch; the stream keeps the last `window` of them, so a
 * RESUME from any sequence >= `oldestResumable` can be served; a lost session gives every event back
 * to the ledger exactly once. A connection is a cursor over this stream, so live sending and replay
 * are the same thing. Opened and ended by sessions.ts, read by connection.ts.
 */
import { GatewayIntentBits } from "discord-api-types/v10";
import type { Connection } from "./connection.js";
import { type PrivateEvent, Receipt, WorldEvent } from "./world-event.js";

/** The stream is compacted when this many dropped entries lie before its start. */
const COMPACT_AT = 8_192;

export interface SessionIdentity {
  readonly id: string;
  readonly shard: readonly [id: number, count: number];
  readonly intents: number;
  readonly largeThreshold: number;
  /** Dispatches kept for replay. */
  readonly window: number;
}

/** Told when an event is not in any live session's stream any more. */
export type ReleaseListener = (event: WorldEvent) => void;

export class Session {
  /** Sequence of the newest dispatch; 0 before the first. */
  s = 0;
  connection: Connection | null = null;
  ended = false;
  ttlTimer: NodeJS.Timeout | null = null;
  #window: number;
  /** Entry of sequence n is at index n - #base - 1. */
  #entries: (WorldEvent | PrivateEvent | undefined)[] = [];
  #base = 0;
  /** Entries up to this sequence have been dropped. */
  #dropped = 0;
  #writtenS = 0;
  #toldS = 0;

  constructor(
    readonly identity: SessionIdentity,
    private readonly onReleased: ReleaseListener,
  ) {
    this.#window = identity.window;
  }

  /** Whether message text is left out for this session ("Message Content Intent"). */
  get lacksContent(): boolean {
    return (this.identity.intents & GatewayIntentBits.MessageContent) === 0;
  }

  /** The lowest sequence a RESUME can name. */
  get oldestResumable(): number {
    return this.#dropped;
  }

  /** Appends a dispatch and lets the connection, if there is one, send it. */
  push(entry: WorldEvent | PrivateEvent): void {
    this.#entries.push(entry);
    this.s++;
    if (entry instanceof WorldEvent) entry.holders++;
    if (this.s - this.#dropped > this.#window) this.#dropOldest();
    this.connection?.schedule();
  }

  /** Makes room for start-up dispatches, which do not count against the replay window. */
  widen(entries: number): void {
    this.#window += entries;
  }

  /** The serialised dispatch of a sequence; null where a replay leaves out an old handshake. */
  frame(s: number, replayed: boolean): string | null {
    const entry = this.#entries[s - this.#base - 1];
    if (entry === undefined) throw new Error(`session ${this.identity.id} has no dispatch ${s}`);
    if (entry instanceof WorldEvent) {
      return `{"t":"${entry.t}","s":${s},"op":0,"d":${this.lacksContent ? entry.bare : entry.full}}`;
    }
    if (replayed && entry.handshake) return null;
    return `{"t":"${entry.t}","s":${s},"op":0,"d":${JSON.stringify(entry.make())}}`;
  }

  /** Notes that everything up to `s` has been handed to the operating system. */
  written(s: number): void {
    this.#mark(this.#writtenS, s, Receipt.written);
    this.#writtenS = Math.max(this.#writtenS, s);
  }

  /** Notes that the client named this sequence as received. */
  told(s: number): void {
    this.#mark(this.#toldS, Math.min(s, this.s), Receipt.told);
    this.#toldS = Math.max(this.#toldS, Math.min(s, this.s));
    this.#writtenS = Math.max(this.#writtenS, this.#toldS);
  }

  /** Gives every event back; the session can not be resumed after this. */
  end(): void {
    if (this.ended) return;
    this.ended = true;
    if (this.ttlTimer !== null) clearTimeout(this.ttlTimer);
    for (const entry of this.#entries) this.#release(entry);
    this.#entries = [];
  }

  #mark(from: number, to: number, receipt: number): void {
    for (let s = Math.max(from, this.#dropped) + 1; s <= to; s++) {
      const entry = this.#entries[s - this.#base - 1];
      if (entry instanceof WorldEvent && entry.receipt < receipt) entry.receipt = receipt;
    }
  }

  #dropOldest(): void {
    const index = this.#dropped - this.#base;
    const entry = this.#entries[index];
    // What left the window after it was written is taken as received: nobody will name it any more.
    if (entry instanceof WorldEvent && entry.receipt === Receipt.written) entry.receipt = Receipt.told;
    this.#release(entry);
    this.#entries[index] = undefined;
    this.#dropped++;
    if (this.#dropped - this.#base >= COMPACT_AT) {
      this.#entries.splice(0, this.#dropped - this.#base);
      this.#base = this.#dropped;
    }
  }

  #release(entry: WorldEvent | PrivateEvent | undefined): void {
    if (!(entry instanceof WorldEvent)) return;
    entry.holders--;
    if (entry.holders === 0) this.onReleased(entry);
  }
}
