/**
 * Owns the ring between one shard's gateway and processing: bounded, preallocated, and aware of its low watermark.
 *
 * An entry is pushed (received), shifted (processing has it) and completed (durable), the last in any order. A slot
 * is free again once everything before it is complete as well, so the ring's size bounds both what waits and what
 * is underway.
 *
 * Invariants:
 * - head <= next <= tail; `held` = tail - head <= slots. Nothing is dropped: a full ring refuses.
 * - The watermark is in push order: the place in its session of the newest dispatch before which all are complete.
 *   Sessions may change midway; a new session's sequence starts over, the push order does not.
 * - No allocation a dispatch. An entry belongs to its taker until `complete`, and not a moment longer.
 *
 * Used by the worker; filled from a shard's `onDispatch`.
 */
import { assert } from "./errors.js";
import type { Cursor } from "./event.js";

/** One slot. Reused: read what you need before you complete it. */
export interface RingEntry<Dispatch> {
  readonly dispatch: Dispatch;
  readonly session: string;
  readonly s: number;
  /** Unix ms of the push as its pusher gave it, or 0. */
  readonly at: number;
}

enum Slot {
  Free = 0,
  Queued = 1,
  Taken = 2,
  Complete = 3,
}

class Entry<Dispatch> implements RingEntry<Dispatch> {
  dispatch: Dispatch = undefined as Dispatch;
  session = "";
  s = 0;
  at = 0;
  slot: Slot = Slot.Free;
}

export class DispatchRing<Dispatch> {
  readonly #entries: Entry<Dispatch>[];
  readonly #mask: number;
  /** Counts since the start: completed prefix, shifted, pushed. Exact up to 2^53. */
  #head = 0;
  #next = 0;
  #tail = 0;
  #watermarkSession: string;
  #watermarkS: number;

  /** `slots` is a power of two; `start` is the watermark before the first dispatch (a checkpoint). */
  constructor(slots: number, start?: Cursor) {
    assert(Number.isSafeInteger(slots) && slots > 0 && (slots & (slots - 1)) === 0, "slots: a power of two");
    this.#mask = slots - 1;
    this.#entries = Array.from({ length: slots }, () => new Entry<Dispatch>());
    this.#watermarkSession = start?.session ?? "";
    this.#watermarkS = start?.s ?? 0;
  }

  /** Takes a dispatch, or answers false when every slot is held. */
  push(dispatch: Dispatch, session: string, s: number, at = 0): boolean {
    if (this.#tail - this.#head > this.#mask) return false;
    const entry = this.#entries[this.#tail & this.#mask]!;
    entry.dispatch = dispatch;
    entry.session = session;
    entry.s = s;
    entry.at = at;
    entry.slot = Slot.Queued;
    this.#tail += 1;
    return true;
  }

  /** The next dispatch to process, in push order. */
  shift(): RingEntry<Dispatch> | undefined {
    if (this.#next === this.#tail) return undefined;
    const entry = this.#entries[this.#next & this.#mask]!;
    entry.slot = Slot.Taken;
    this.#next += 1;
    return entry;
  }

  /** The dispatch is durable (or needs nothing to be). In any order; once an entry. */
  complete(taken: RingEntry<Dispatch>): void {
    const entry = taken as Entry<Dispatch>;
    assert(entry.slot === Slot.Taken, "an entry is completed once, after its shift");
    entry.slot = Slot.Complete;
    // The payload can be large and the prefix may be held up: let it go now.
    entry.dispatch = undefined as Dispatch;
    let head = this.#head;
    let first = this.#entries[head & this.#mask]!;
    if (first !== entry) return;
    do {
      first.slot = Slot.Free;
      this.#watermarkSession = first.session;
      this.#watermarkS = first.s;
      head += 1;
      first = this.#entries[head & this.#mask]!;
    } while (first.slot === Slot.Complete);
    this.#head = head;
  }

  /** Pushed and not shifted yet. */
  get queued(): number {
    return this.#tail - this.#next;
  }

  /** Pushed and not in the completed prefix: the slots in use. */
  get held(): number {
    return this.#tail - this.#head;
  }

  get slots(): number {
    return this.#mask + 1;
  }

  get isEmpty(): boolean {
    return this.#head === this.#tail;
  }

  /** Everything up to and including this is complete; undefined before the first. Allocates: not for every dispatch. */
  get watermark(): Cursor | undefined {
    if (this.#watermarkSession === "") return undefined;
    return { session: this.#watermarkSession, s: this.#watermarkS };
  }
}
