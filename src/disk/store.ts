/**
 * Owns the database node's disk: guild documents, quarantine and watermark in one lmdb environment.
 *
 * Invariants:
 * - A batch is one transaction: documents, quarantine and the watermark that covers them are all there or none is.
 * - `writeBatch` resolves after the fsync of its commit. I4: what is announced after it survives kill -9 and power loss.
 *   If the process dies before, the store opens at the batch before.
 * - One process a folder (lock.ts).
 *
 * Used by the database node alone; nothing else imports lmdb.
 */
import { type Database, open, type RootDatabase } from "lmdb";
import type { Checksum } from "../core/canonical.js";
import { zeroChecksum } from "../core/canonical.js";
import { GuildstreamError, messageOf } from "../core/errors.js";
import { limits } from "../core/limits.js";
import { lockFolder } from "./lock.js";
import { decodeRecord, encodeRecord, type StoredDocument } from "./record.js";

export type { StoredDocument } from "./record.js";

/** How far the store is, and of which stream; written with every batch. */
export interface Watermark {
  /** The stream's created time; "" in a new store. */
  streamCreated: string;
  /** Every message of the stream up to here is in the documents or in quarantine. */
  saved: number;
  /** When the stream stored that message (Unix ns): tells it from another message with its number. */
  savedTimeNs: string;
  /** Over all documents, in any order. */
  checksum: Checksum;
  /** Guilds with a state. */
  guildCount: number;
}

export interface QuarantineEntry {
  seq: number;
  subject: string;
  guildId?: string | undefined;
  reason: string;
  /** Unix ms. */
  at: number;
}

export interface Batch {
  documents: Iterable<readonly [guildId: string, document: StoredDocument]>;
  /** Guilds to forget entirely. */
  removed?: Iterable<string>;
  quarantine: readonly QuarantineEntry[];
  watermark: Watermark;
}

export const newWatermark: Watermark = {
  streamCreated: "",
  saved: 0,
  savedTimeNs: "",
  checksum: zeroChecksum,
  guildCount: 0,
};

const formatVersion = 1;
const watermarkKey = "watermark";

/**
 * Opens (or makes) the store in a folder.
 * @throws GuildstreamError DATA_DIR_IN_USE, DISK_FULL, DISK_FAILED
 */
export async function openStore(folder: string): Promise<Store> {
  const unlock = lockFolder(folder);
  try {
    return new Store(folder, unlock);
  } catch (error) {
    unlock();
    throw diskError(folder, error);
  }
}

export class Store {
  readonly #root: RootDatabase;
  readonly #documents: Database<string, string>;
  readonly #meta: Database<string, string>;
  readonly #quarantine: Database<string, number>;
  readonly #unlock: () => void;
  #watermark: Watermark;
  #quarantined: number;

  constructor(
    readonly folder: string,
    unlock: () => void,
  ) {
    this.#unlock = unlock;
    // Without overlapping sync a commit resolves once it is synced, and a failed sync rejects it.
    this.#root = open({
      path: folder,
      mapSize: limits.diskMapBytes,
      overlappingSync: false,
      noSubdir: false,
    });
    const options = { encoding: "string", cache: false } as const;
    this.#documents = this.#root.openDB("documents", options);
    this.#meta = this.#root.openDB("meta", options);
    this.#quarantine = this.#root.openDB("quarantine", options);
    this.#watermark = this.#readWatermark();
    this.#quarantined = this.#quarantine.getKeysCount();
  }

  /** What the disk holds: after a crash, what the next start reads. */
  get watermark(): Watermark {
    return this.#watermark;
  }

  get guildCount(): number {
    return this.#watermark.guildCount;
  }

  get quarantined(): number {
    return this.#quarantined;
  }

  /**
   * A guild's document, verified; undefined when the store does not know the guild.
   * @throws GuildstreamError DISK_FAILED when it does not agree with its checksum.
   */
  read(guildId: string): StoredDocument | undefined {
    const record = this.#documents.get(guildId);
    return record === undefined ? undefined : decodeRecord(guildId, record);
  }

  /** Every guild's document, by guild id; for checks and tests. */
  *readAll(): Generator<[guildId: string, document: StoredDocument]> {
    for (const { key, value } of this.#documents.getRange({})) yield [key, decodeRecord(key, value)];
  }

  /**
   * Writes a batch; resolves once it is on disk. One at a time.
   * @throws GuildstreamError DISK_FULL, DISK_FAILED: nothing of the batch is stored.
   */
  async writeBatch(batch: Batch): Promise<void> {
    let quarantined = 0;
    try {
      // A child transaction, since only that is undone when something in it throws.
      await this.#root.childTransaction(() => {
        for (const [guildId, document] of batch.documents) {
          this.#documents.putSync(guildId, encodeRecord(document));
        }
        for (const guildId of batch.removed ?? []) this.#documents.removeSync(guildId);
        for (const entry of batch.quarantine) this.#quarantine.putSync(entry.seq, JSON.stringify(entry));
        quarantined = this.#trimQuarantine(batch.quarantine.length);
        this.#meta.putSync(watermarkKey, JSON.stringify({ v: formatVersion, ...batch.watermark }));
      });
    } catch (error) {
      throw diskError(this.folder, await commitError(error));
    }
    this.#watermark = batch.watermark;
    this.#quarantined = quarantined;
  }

  /** Starts over: no documents, no quarantine, watermark 0. If the process dies here, all of it or none happened. */
  async reset(): Promise<void> {
    try {
      await this.#root.childTransaction(() => {
        for (const database of [this.#documents, this.#quarantine, this.#meta] as Database<string>[]) {
          for (const key of [...database.getKeys({})]) database.removeSync(key);
        }
      });
    } catch (error) {
      throw diskError(this.folder, await commitError(error));
    }
    this.#watermark = newWatermark;
    this.#quarantined = 0;
  }

  /** The quarantine, oldest first. */
  quarantineList(): QuarantineEntry[] {
    return Array.from(this.#quarantine.getRange({}), ({ value }) => JSON.parse(value) as QuarantineEntry);
  }

  async close(): Promise<void> {
    await this.#root.close();
    this.#unlock();
  }

  /** Keeps the newest entries; returns how many there are. */
  #trimQuarantine(added: number): number {
    if (added === 0) return this.#quarantined;
    let count = this.#quarantine.getKeysCount();
    if (count <= limits.quarantineEntriesMax) return count;
    for (const key of [...this.#quarantine.getKeys({ limit: count - limits.quarantineEntriesMax })]) {
      this.#quarantine.removeSync(key);
      count -= 1;
    }
    return count;
  }

  #readWatermark(): Watermark {
    const text = this.#meta.get(watermarkKey);
    if (text === undefined) return newWatermark;
    const { v, ...watermark } = JSON.parse(text) as Watermark & { v: number };
    if (v === formatVersion) return watermark;
    throw new GuildstreamError(
      "DISK_FAILED",
      `${this.folder} is of format ${v}, this code knows ${formatVersion}`,
      {
        hint: "run the version that wrote it, or delete the folder to have it rebuilt from the stream",
      },
    );
  }
}

/** lmdb hides the reason of a failed commit behind a second promise, which is rejected a little later. */
async function commitError(error: unknown): Promise<unknown> {
  const reason = (error as { commitError?: Promise<unknown> }).commitError;
  if (reason === undefined) return error;
  const late = new Promise((resolve) => setTimeout(resolve, 1_000, error).unref());
  return Promise.race([reason.catch((cause: unknown) => cause), late]);
}

const fullPattern = /MDB_MAP_FULL|ENOSPC|EDQUOT|EFBIG|No space left|File too large|quota exceeded/i;

function diskError(folder: string, cause: unknown): GuildstreamError {
  if (cause instanceof GuildstreamError) return cause;
  const message = messageOf(cause);
  if (fullPattern.test(message)) {
    return new GuildstreamError("DISK_FULL", `no room left in ${folder}: ${message}`, {
      cause,
      hint: "free some space and start the node again; it goes on from what it has saved",
    });
  }
  return new GuildstreamError("DISK_FAILED", `cannot write to ${folder}: ${message}`, {
    cause,
    hint: "check the disk and the folder's permissions",
  });
}
