/**
 * Owns which guilds are dirty: their last event is not yet saved by enough database nodes.
 *
 * Invariant: a guild is dirty from the moment its append is acknowledged until the saved watermark has passed that
 * sequence. Acknowledgements come in the order of the stream, nearly; a late one only waits a little longer.
 */
interface Unsaved {
  seq: number;
  guildId: string;
}

const compactAt = 4_096;

export class SavedTracker {
  readonly #lastSeq = new Map<string, number>();
  #queue: Unsaved[] = [];
  #head = 0;
  #watermark = 0;

  get watermark(): number {
    return this.#watermark;
  }

  get dirtyGuilds(): number {
    return this.#lastSeq.size;
  }

  isDirty(guildId: string): boolean {
    return this.#lastSeq.has(guildId);
  }

  someDirty(isWanted: (guildId: string) => boolean): boolean {
    for (const guildId of this.#lastSeq.keys()) if (isWanted(guildId)) return true;
    return false;
  }

  appended(guildId: string, seq: number): void {
    if (seq <= this.#watermark) return;
    this.#lastSeq.set(guildId, seq);
    this.#queue.push({ seq, guildId });
  }

  /** All up to here is saved. A watermark that falls (a node came back that lags) makes nothing dirty again. */
  advance(watermark: number): void {
    this.#watermark = watermark;
    while (this.#head < this.#queue.length && this.#queue[this.#head]!.seq <= watermark) {
      const { seq, guildId } = this.#queue[this.#head]!;
      if (this.#lastSeq.get(guildId) === seq) this.#lastSeq.delete(guildId);
      this.#head += 1;
    }
    if (this.#head > compactAt && this.#head * 2 > this.#queue.length) {
      this.#queue = this.#queue.slice(this.#head);
      this.#head = 0;
    }
  }
}
