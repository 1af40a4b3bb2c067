/**
 * Owns getting what was folded onto disk: one write a guild a batch, one fsync a batch, group commit.
 *
 * Invariants:
 * - While a batch is being written, messages go on being folded; they make the next batch.
 * - The texts of a batch are made between two messages: nothing is folded meanwhile (`holdFolding`), so that documents
 *   and watermark agree.
 * - `onSaved` is called after the fsync, never before. If the process dies before it, nothing was announced and the
 *   next start folds the same messages again.
 * - After the first failure nothing is written or announced any more.
 */
import { type Checksum, canonicalJson, combineChecksum } from "../core/canonical.js";
import { limits } from "../core/limits.js";
import { checksumOf } from "../disk/record.js";
import type { Store, StoredDocument, Watermark } from "../disk/store.js";
import type { Documents, Entry } from "./documents.js";
import type { Folding } from "./folding.js";

export interface SaverOptions {
  store: Store;
  documents: Documents;
  folding: Folding;
  /** Nothing may be folded from here until the function it returns is called. */
  holdFolding: () => () => void;
  onSaved: (watermark: Watermark) => void;
  onFailure: (error: unknown) => void;
}

export class Saver {
  readonly #options: SaverOptions;
  #running: Promise<void> | undefined;
  #behind = false;
  #draining = false;
  #failed = false;
  #wake: (() => void) | undefined;

  constructor(options: SaverOptions) {
    this.#options = options;
  }

  /** Something was folded; `behind` when the stream has much more, so that larger batches are worth their wait. */
  kick(behind: boolean): void {
    this.#behind = behind;
    if (this.#failed || this.#options.folding.unsaved === 0) return;
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
    });
    if (this.#isDue()) this.#wake?.();
  }

  /** Resolves when everything folded so far is on disk and announced, or the saver has failed. */
  async drain(): Promise<void> {
    this.#draining = true;
    this.#wake?.();
    try {
      while (!this.#failed && (this.#running !== undefined || this.#options.folding.unsaved > 0)) {
        this.kick(false);
        await this.#running;
      }
    } finally {
      this.#draining = false;
    }
  }

  #isDue(): boolean {
    if (this.#draining) return true;
    const { folding, documents } = this.#options;
    if (documents.dirtyBytes >= limits.unsavedBytesMax / 2) return true;
    return folding.unsaved >= (this.#behind ? limits.unsavedMessagesMax / 2 : limits.batchMessagesMax);
  }

  async #run(): Promise<void> {
    try {
      while (this.#options.folding.unsaved > 0) {
        if (!this.#isDue()) await this.#wait();
        await this.#saveBatch();
      }
    } catch (error) {
      this.#failed = true;
      this.#options.onFailure(error);
    }
  }

  #wait(): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        this.#wake = undefined;
        clearTimeout(timer);
        resolve();
      };
      const timer = setTimeout(done, this.#behind ? limits.batchIntervalBehindMs : limits.batchIntervalMs);
      this.#wake = done;
    });
  }

  async #saveBatch(): Promise<void> {
    const { store, documents, folding } = this.#options;
    const releaseFolding = this.#options.holdFolding();
    let taken: ReturnType<Folding["take"]>;
    let made: Made;
    try {
      taken = folding.take();
      made = await this.#makeTexts(taken.entries, store.watermark);
    } finally {
      releaseFolding();
    }
    const watermark: Watermark = {
      streamCreated: store.watermark.streamCreated,
      saved: taken.seq,
      savedTimeNs: taken.timeNs,
      checksum: made.checksum,
      guildCount: made.guildCount,
    };
    await store.writeBatch({ documents: made.documents, quarantine: taken.quarantine, watermark });
    documents.saved(taken.entries);
    this.#options.onSaved(watermark);
  }

  /** Large guilds cost a millisecond each: requests and acks are let in between. */
  async #makeTexts(entries: readonly Entry[], before: Watermark): Promise<Made> {
    const made: Made = { documents: [], checksum: before.checksum, guildCount: before.guildCount };
    let sliceEnd = performance.now() + limits.saveSliceMs;
    for (const [index, entry] of entries.entries()) {
      made.documents.push([entry.guildId, this.#makeText(entry, made)]);
      if (index % 32 !== 31 || performance.now() < sliceEnd) continue;
      await new Promise((resolve) => setImmediate(resolve));
      sliceEnd = performance.now() + limits.saveSliceMs;
    }
    return made;
  }

  #makeText(entry: Entry, made: Made): StoredDocument {
    const { rev, epoch, seq, by, cursor, state } = entry.document;
    const stateText = canonicalJson(state);
    const checksum = checksumOf(entry.guildId, rev, stateText);
    const live = stateText !== "";
    made.checksum = combineChecksum(combineChecksum(made.checksum, entry.storedChecksum), checksum);
    made.guildCount += (live ? 1 : 0) - (entry.storedLive ? 1 : 0);
    entry.storedChecksum = checksum;
    entry.storedLive = live;
    this.#options.documents.sized(entry, stateText.length);
    return { rev, epoch, seq, by, cursor, stateText, checksum, broken: entry.broken };
  }
}

interface Made {
  documents: [guildId: string, document: StoredDocument][];
  checksum: Checksum;
  guildCount: number;
}
