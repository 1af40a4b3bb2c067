/**
 * Owns how one guild's document lies on disk: one line of JSON (where it stands in the log), then the canonical text
 * of its state. The state is not parsed to be served, and equal documents are equal bytes on every node.
 *
 * Invariant: what is decoded here agrees with its checksum, or is an error that names the guild.
 */
import { type Checksum, documentChecksum, formatChecksum, zeroChecksum } from "../core/canonical.js";
import { GuildstreamError } from "../core/errors.js";
import type { Cursor } from "../core/event.js";

/** A guild's document as stored; `stateText` is canonical JSON, "" without a state (a tombstone). */
export interface StoredDocument {
  rev: number;
  epoch: number;
  seq: number;
  by: string;
  cursor: Cursor | null;
  stateText: string;
  checksum: Checksum;
  /** Why the guild cannot be served until a snapshot repairs it. */
  broken: string | undefined;
}

/** The document's part of the sum over all guilds; none before its first event. */
export function checksumOf(guildId: string, rev: number, stateText: string): Checksum {
  return rev === 0 ? zeroChecksum : documentChecksum(guildId, rev, stateText);
}

export function encodeRecord(document: StoredDocument): string {
  const { rev, epoch, seq, by, cursor, checksum, broken } = document;
  const head = [rev, epoch, seq, by, cursor?.session ?? null, cursor?.s ?? 0, checksum[0], checksum[1]];
  if (broken !== undefined) head.push(broken);
  return `${JSON.stringify(head)}\n${document.stateText}`;
}

type Head = [number, number, number, string, string | null, number, number, number, string?];

/**
 * Decodes and verifies.
 * @throws GuildstreamError DISK_FAILED, naming the guild.
 */
export function decodeRecord(guildId: string, record: string): StoredDocument {
  const end = record.indexOf("\n");
  let head: Head;
  try {
    head = JSON.parse(record.slice(0, end)) as Head;
  } catch (cause) {
    throw damaged(guildId, "its record does not parse", cause);
  }
  const [rev, epoch, seq, by, session, s, high, low, broken] = head;
  const stateText = record.slice(end + 1);
  const checksum: Checksum = [high, low];
  const actual = checksumOf(guildId, rev, stateText);
  if (actual[0] !== high || actual[1] !== low) {
    throw damaged(guildId, `checksum ${formatChecksum(actual)}, stored with ${formatChecksum(checksum)}`);
  }
  const cursor = session === null ? null : { session, s };
  return { rev, epoch, seq, by, cursor, stateText, checksum, broken };
}

function damaged(guildId: string, what: string, cause?: unknown): GuildstreamError {
  return new GuildstreamError("DISK_FAILED", `the document of guild ${guildId} is damaged: ${what}`, {
    cause,
    hint: "check the disk; delete the node's data folder to have it rebuilt from the stream",
  });
}
