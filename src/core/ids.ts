/**
 * Owns identities: guild ids (Discord snowflakes), their partition and shard, member ids, incarnations.
 * Invariant: a guild id that passed `isSnowflake` is safe inside a subject, a key and a file name.
 */
import { limits } from "./limits.js";

/** A Discord snowflake as a decimal string. */
export type GuildId = string;

const snowflakePattern = /^[1-9][0-9]{14,19}$/;
const memberPattern = /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/;

/** Whether the text is a snowflake: 15 to 20 digits (Discord reference, "Snowflakes"). */
export function isSnowflake(text: unknown): text is GuildId {
  return typeof text === "string" && snowflakePattern.test(text);
}

/** Whether the text may name a worker or a database node: it becomes part of subjects and keys. */
export function isMemberId(text: unknown): text is string {
  return typeof text === "string" && memberPattern.test(text);
}

/** The guild's partition, 0 to 63: `(guildId >> 22) % 64`. Power-of-two shard counts line up with it. */
export function partitionOf(guildId: GuildId): number {
  return Number((BigInt(guildId) >> 22n) % BigInt(limits.partitionCount));
}

/** The shard that Discord delivers the guild to (Discord Gateway documentation, "Sharding"). */
export function shardOf(guildId: GuildId, shardCount: number): number {
  return Number((BigInt(guildId) >> 22n) % BigInt(shardCount));
}

/** When a snowflake was made, in Unix milliseconds. */
export function snowflakeTimeMs(id: string): number {
  return Number((BigInt(id) >> 22n) + 1_420_070_400_000n);
}
