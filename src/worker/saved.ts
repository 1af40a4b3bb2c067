/**
 * Owns which guilds are dirty: their last event is not yet saved by enough database nodes.
 *
 * Invariants:
 * - A guild is dirty from the moment its append is acknowledged until the saved watermark has passed that sequence.
 *   Acknowledgements come in the order of the stream, nearly; a late one only waits a little longer.
 * - What it takes is bounded by the guilds, not by the events: with no database node for a day, too.
 * - While it is not known whether the stream is still what it was (`suspend`), nothing becomes clean.
 */
interface Unsaved {
  seq: number;
  guildId: string;
  /** How many connections there were before: what came on this one is of the stream as it is now. */
  connection: number;
}

const compactAt = 4_096;

export class SavedTracker {
  readonly #lastSeq = new Map<string, number>();
  /** In the order of acknowledgement; a guild's older events stay in it until it is compacted. */
  #queue: Unsaved[] = [];
  #head = 0;
  #watermark = 0;
  #suspended = 0;
  #connection = 0;

  get dirtyGuilds(): number {
    return this.#lastSeq.size;
  }

  /** Events it remembers. */
  get remembered(): number {
    return this.#queue.length - this.#head;
  }

  isDirty(guildId: string): boolean {
    return this.#lastSeq.has(guildId);
  }

  someDirty(isWanted: (guildId: string) => boolean): boolean {
    for (const guildId of this.#lastSeq.keys()) if (isWanted(guildId)) return true;
    return false;
  }

  appended(guildId: string, seq: number): void {
    if (this.#suspended === 0 && seq <= this.#watermark) return;
    this.#lastSeq.set(guildId, seq);
    this.#queue.push({ seq, guildId, connection: this.#connection });
    if (this.remembered > compactAt && this.remembered > this.#lastSeq.size * 2) this.#compact();
  }

  /** All up to here is saved. A watermark that falls (a node came back that lags) makes nothing dirty again. */
  advance(watermark: number): void {
    this.#watermark = watermark;
    if (this.#suspended > 0) return;
    while (this.#head < this.#queue.length && this.#queue[this.#head]!.seq <= watermark) {
      const { seq, guildId } = this.#queue[this.#head]!;
      if (this.#lastSeq.get(guildId) === seq) this.#lastSeq.delete(guildId);
      this.#head += 1;
    }
    if (this.#head > compactAt && this.#head * 2 > this.#queue.length) this.#compact();
  }

  /** The connection was made anew: until the stream has been looked at, sequences may mean something else. */
  suspend(): void {
    this.#suspended += 1;
    this.#connection += 1;
  }

  /** The stream has been looked at, once for each `suspend`. With a sequence: it had lost everything after that. */
  resume(rewoundTo?: number): void {
    this.#suspended -= 1;
    if (rewoundTo !== undefined) this.#forgetLost(rewoundTo);
    this.advance(this.#watermark);
  }

  /** What the stream lost is appended again and remembered then; waiting for its old place would be for ever. */
  #forgetLost(lastSeq: number): void {
    for (let index = this.#head; index < this.#queue.length; index += 1) {
      const { seq, guildId, connection } = this.#queue[index]!;
      const isLost = connection < this.#connection && seq > lastSeq;
      if (isLost && this.#lastSeq.get(guildId) === seq) this.#lastSeq.delete(guildId);
    }
    this.#compact();
  }

  /** A guild waits for its last event alone. */
  #compact(): void {
    const live: Unsaved[] = [];
    for (let index = this.#head; index < this.#queue.length; index += 1) {
      const entry = this.#queue[index]!;
      if (this.#lastSeq.get(entry.guildId) === entry.seq) live.push(entry);
    }
    this.#queue = live;
    this.#head = 0;
  }
}
