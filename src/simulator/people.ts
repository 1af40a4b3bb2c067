/**
 * The users of the world: a seeded pool, each made on demand from its index, none kept.
 *
 * A user's id holds its index, so that `userIndex(userId(n)) === n`. Used by the world for members
 * and by traffic for authors.
 */
import { type APIUser, UserFlags } from "discord-api-types/v10";
import { fraction, hexHash, mix } from "./random.js";
import { createdAtMs, joinId, sinceDiscordEpochMs, splitId } from "./snowflake.js";

const FIRST_USER_MS = sinceDiscordEpochMs(Date.UTC(2018, 0, 1));
/** Ids are this far apart; a prime keeps them from lining up with shard counts. */
const USER_STEP_MS = 1_009;

const ADJECTIVES = ["quiet", "amber", "rapid", "lunar", "mossy", "brave", "tiny", "solar", "vivid", "stray"];
const NOUNS = ["otter", "falcon", "comet", "maple", "badger", "pixel", "harbor", "ember", "walnut", "heron"];

/** A user's name in lower case, unique by its number. */
export function username(seed: number, index: number): string {
  const hash = mix(seed, index, 11);
  return `${ADJECTIVES[hash % 10]}_${NOUNS[(hash >>> 8) % 10]}${index}`;
}

/** The user at an index of the pool. */
export function makeUser(seed: number, index: number): APIUser {
  const name = username(seed, index);
  return {
    id: userId(index),
    username: name,
    discriminator: "0",
    global_name: fraction(seed, index, 12) < 0.7 ? name.replace("_", " ") : null,
    avatar: fraction(seed, index, 13) < 0.8 ? hexHash(4, seed, index, 14) : null,
    public_flags: mix(seed, index, 15) % 4 === 0 ? UserFlags.HypeSquadOnlineHouse1 : (0 as UserFlags),
    avatar_decoration_data: null,
    primary_guild: null,
    collectibles: null,
  };
}

export function userId(index: number): string {
  return joinId(FIRST_USER_MS + index * USER_STEP_MS, 0);
}

/** The channel of direct messages between the bot and a user. */
export function dmChannelId(index: number): string {
  return joinId(FIRST_USER_MS + index * USER_STEP_MS, 1);
}

/** The pool index of a user id (low 0) or DM channel id (low 1), or -1 if it is neither. */
export function indexOfUser(id: string, pool: number, low: 0 | 1): number {
  const parts = splitId(id);
  if (parts === null || parts.low !== low) return -1;
  const index = (parts.sinceEpochMs - FIRST_USER_MS) / USER_STEP_MS;
  return Number.isInteger(index) && index >= 0 && index < pool ? index : -1;
}

/** When the account at an index was made, in Unix milliseconds. */
export function accountCreatedAtMs(index: number): number {
  return createdAtMs(FIRST_USER_MS + index * USER_STEP_MS);
}
