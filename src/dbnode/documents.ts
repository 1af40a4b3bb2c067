/**
 * Owns the guild documents in memory: a byte-bounded cache of parsed ones in front of the store, and which of them the
 * store does not have yet.
 *
 * Invariants:
 * - What is not saved stays in memory, whatever the bound; what is saved leaves in the order it was last used.
 * - A document in memory is at least as new as the store's.
 *
 * Used by the fold (changes them), the saver (takes what changed) and the get server (reads them).
 */
import { type Checksum, zeroChecksum } from "../core/canonical.js";
import { emptyDocument, type GuildDocument } from "../core/document.js";
import { messageOf } from "../core/errors.js";
import { limits } from "../core/limits.js";
import type { Store, StoredDocument } from "../disk/store.js";

export interface Entry {
  readonly guildId: string;
  readonly subject: string;
  document: GuildDocument;
  /** Why the guild is not served; a snapshot clears it. */
  broken: string | undefined;
  /** About what it takes in memory. */
  bytes: number;
  /** The store's part of the total checksum and count, to take away when it is written again. */
  storedChecksum: Checksum;
  storedLive: boolean;
  /** Changed since it was last taken for saving. */
  dirty: boolean;
  /** In a batch that is being written. */
  saving: boolean;
}

/** A parsed object takes about this many times its text. */
const parsedFactor = 3;
const entryBytes = 500;

export class Documents {
  readonly #store: Store;
  readonly #cacheBytes: number;
  /** In order of use, the oldest first. */
  readonly #entries = new Map<string, Entry>();
  #dirty = new Map<string, Entry>();
  #bytes = 0;
  #dirtyBytes = 0;

  constructor(store: Store, cacheBytes: number = limits.documentCacheBytes) {
    this.#store = store;
    this.#cacheBytes = cacheBytes;
  }

  get inMemory(): number {
    return this.#entries.size;
  }

  /** Text folded into documents that the store does not have yet. */
  get dirtyBytes(): number {
    return this.#dirtyBytes;
  }

  /** The guild's entry if it is in memory. */
  peek(guildId: string): Entry | undefined {
    return this.#entries.get(guildId);
  }

  /** The guild's entry, read from the store or made; a damaged record makes a broken guild, never a wrong one. */
  open(guildId: string, subject: string): Entry {
    let entry = this.#entries.get(guildId);
    if (entry !== undefined) {
      this.#entries.delete(guildId);
      this.#entries.set(guildId, entry);
      return entry;
    }
    entry = this.#load(guildId, subject);
    this.#entries.set(guildId, entry);
    this.#bytes += entry.bytes;
    this.#evict();
    return entry;
  }

  /** The entry has changed by a message of so many characters. */
  changed(entry: Entry, length: number): void {
    const added = length * parsedFactor;
    entry.bytes += added;
    this.#bytes += added;
    this.#dirtyBytes += length;
    if (entry.dirty) return;
    entry.dirty = true;
    this.#dirty.set(entry.guildId, entry);
  }

  /** What has changed since the last call. The caller gives each its text before anything else is folded. */
  takeDirty(): Entry[] {
    const taken = [...this.#dirty.values()];
    this.#dirty = new Map();
    this.#dirtyBytes = 0;
    for (const entry of taken) {
      entry.dirty = false;
      entry.saving = true;
    }
    return taken;
  }

  /** The exact size is known once the text is made. */
  sized(entry: Entry, textLength: number): void {
    const bytes = textLength * parsedFactor + entryBytes;
    this.#bytes += bytes - entry.bytes;
    entry.bytes = bytes;
  }

  /** The store has them now: they may leave memory. */
  saved(entries: readonly Entry[]): void {
    for (const entry of entries) entry.saving = false;
    this.#evict();
  }

  /** Forgets everything; the store was emptied. */
  clear(): void {
    this.#entries.clear();
    this.#dirty = new Map();
    this.#bytes = 0;
    this.#dirtyBytes = 0;
  }

  #load(guildId: string, subject: string): Entry {
    const entry: Entry = {
      guildId,
      subject,
      document: emptyDocument(),
      broken: undefined,
      bytes: entryBytes,
      storedChecksum: zeroChecksum,
      storedLive: false,
      dirty: false,
      saving: false,
    };
    let stored: StoredDocument | undefined;
    try {
      stored = this.#store.read(guildId);
    } catch (error) {
      entry.broken = messageOf(error);
    }
    if (stored === undefined) return entry;
    const { rev, epoch, seq, by, cursor, stateText } = stored;
    const state: unknown = stateText === "" ? undefined : JSON.parse(stateText);
    entry.document = { state, rev, epoch, seq, by, cursor };
    entry.broken = stored.broken;
    entry.bytes += stateText.length * parsedFactor;
    entry.storedChecksum = stored.checksum;
    entry.storedLive = stateText !== "";
    return entry;
  }

  #evict(): void {
    if (this.#bytes <= this.#cacheBytes) return;
    for (const [guildId, entry] of this.#entries) {
      if (entry.dirty || entry.saving) continue;
      this.#entries.delete(guildId);
      this.#bytes -= entry.bytes;
      if (this.#bytes <= this.#cacheBytes) return;
    }
  }
}
