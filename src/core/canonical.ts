/**
 * Owns the canonical text of a JSON value (keys sorted, no spaces) and its checksum. Two nodes that hold equal
 * state hold equal bytes, in whatever order the keys came. Numbers and strings are as JSON.stringify writes them.
 */
import { hash } from "node:crypto";

/** Canonical JSON of a value that came from JSON; `undefined` is the empty text (a tombstone's state). */
export function canonicalJson(value: unknown): string {
  switch (typeof value) {
    case "undefined":
      return "";
    case "number":
      return Number.isFinite(value) ? `${value === 0 ? 0 : value}` : "null";
    case "object":
      break;
    default:
      return JSON.stringify(value);
  }
  if (value === null) return "null";
  if (Array.isArray(value)) return `[${value.map((item) => canonicalJson(item ?? null)).join(",")}]`;
  const object = value as Record<string, unknown>;
  let text = "";
  for (const key of sortedKeys(object)) {
    const child = object[key];
    if (child === undefined) continue;
    // Most keys need no escapes, and finding that out costs a fraction of escaping them.
    const quoted = plainKey.test(key) ? `"${key}"` : JSON.stringify(key);
    text += `${text === "" ? "" : ","}${quoted}:${canonicalJson(child)}`;
  }
  return `{${text}}`;
}

const plainKey = /^[\w-]*$/;

/** Sorted by code units, as `sort` without arguments does; states are mostly written in order already. */
function sortedKeys(object: Record<string, unknown>): string[] {
  const keys = Object.keys(object);
  for (let index = 1; index < keys.length; index += 1) {
    if (keys[index - 1]! > keys[index]!) return keys.sort();
  }
  return keys;
}

/** 64 bits of a document's SHA-256, as two unsigned words: cheap to add up over all guilds in any order. */
export type Checksum = readonly [number, number];

export const zeroChecksum: Checksum = [0, 0];

/** The checksum of one guild's document: id, revision and canonical state. */
export function documentChecksum(guildId: string, rev: number, canonicalState: string): Checksum {
  const digest = hash("sha256", `${guildId}\n${rev}\n${canonicalState}`, "buffer");
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
