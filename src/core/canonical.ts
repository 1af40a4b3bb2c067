/**
 * Owns the canonical text of a JSON value (keys sorted, no spaces) and its checksum. Two nodes that hold equal
 * state hold equal bytes, in whatever order the keys came. Numbers and strings are as JSON.stringify writes them.
 */
import { createHash } from "node:crypto";

/** Canonical JSON of a value that came from JSON; `undefined` is the empty text (a tombstone's state). */
export function canonicalJson(value: unknown): string {
  if (value === undefined) return "";
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map((item) => canonicalJson(item ?? null)).join(",")}]`;
  const object = value as Record<string, unknown>;
  let text = "";
  for (const key of Object.keys(object).sort()) {
    const child = object[key];
    if (child === undefined) continue;
    text += `${text === "" ? "" : ","}${JSON.stringify(key)}:${canonicalJson(child)}`;
  }
  return `{${text}}`;
}

/** 64 bits of a document's SHA-256, as two unsigned words: cheap to add up over all guilds in any order. */
export type Checksum = readonly [number, number];

export const zeroChecksum: Checksum = [0, 0];

/** The checksum of one guild's document: id, revision and canonical state. */
export function documentChecksum(guildId: string, rev: number, canonicalState: string): Checksum {
  const digest = createHash("sha256").update(`${guildId}\n${rev}\n`).update(canonicalState).digest();
  return [digest.readUInt32BE(0), digest.readUInt32BE(4)];
}

/** Adds or takes away a guild's part; exclusive or does both, and does not depend on the order. */
export function combineChecksum(total: Checksum, part: Checksum): Checksum {
  return [(total[0] ^ part[0]) >>> 0, (total[1] ^ part[1]) >>> 0];
}

/** 16 hex digits. */
export function formatChecksum(checksum: Checksum): string {
  return checksum.map((word) => word.toString(16).padStart(8, "0")).join("");
}
