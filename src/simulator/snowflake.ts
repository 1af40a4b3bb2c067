/**
 * Discord ids (API Reference, "Snowflakes"): milliseconds since 2015 above 22 bits of counter.
 *
 * Seeded objects get ids made of their place in the world, so that an id can be taken apart again
 * without an index; objects born at run time get ids of the clock, unique within this process.
 */
const DISCORD_EPOCH_MS = 1_420_070_400_000;
const COUNTER_MASK = 0x3fffff;

let lastMs = 0;
let counter = 0;

/** A fresh id of the current time; ids of one process are unique and rise. */
export function freshId(): string {
  const nowMs = Math.max(Date.now(), lastMs);
  counter = nowMs === lastMs ? counter + 1 : 0;
  // More than 4 million ids in a millisecond would repeat: borrow the next one.
  if (counter > COUNTER_MASK) {
    counter = 0;
    lastMs = nowMs + 1;
  } else {
    lastMs = nowMs;
  }
  return joinId(lastMs - DISCORD_EPOCH_MS, counter);
}

/** The id of a number of milliseconds since Discord's epoch and a counter below 2^22. */
export function joinId(sinceEpochMs: number, low: number): string {
  return ((BigInt(sinceEpochMs) << 22n) | BigInt(low)).toString();
}

/** The parts of an id, or null if the text is not a snowflake. */
export function splitId(id: string): { sinceEpochMs: number; low: number } | null {
  if (!/^\d{1,20}$/.test(id)) return null;
  const value = BigInt(id);
  return { sinceEpochMs: Number(value >> 22n), low: Number(value & 0x3fffffn) };
}

/** When an id was made, in Unix milliseconds. */
export function createdAtMs(sinceEpochMs: number): number {
  return sinceEpochMs + DISCORD_EPOCH_MS;
}

/** Milliseconds since Discord's epoch of a Unix time. */
export function sinceDiscordEpochMs(unixMs: number): number {
  return unixMs - DISCORD_EPOCH_MS;
}
