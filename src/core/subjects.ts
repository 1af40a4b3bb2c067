/**
 * Owns the names on the wire: subjects, streams, headers, keys of the list-server.
 * Changing one of them splits a running cluster.
 */
import { type GuildId, isSnowflake, partitionOf } from "./ids.js";

export const guildsStream = "GUILDS";
export const handoffStream = "HANDOFF";
export const clusterBucket = "cluster";

export const kindHeader = "Guildstream-Kind";
export const expectedSequenceHeader = "Nats-Expected-Last-Subject-Sequence";
export const messageIdHeader = "Nats-Msg-Id";
export const rollupHeader = "Nats-Rollup";

/** `guild.<pp>.<guildId>`; the caller keeps it with the guild, since it costs a BigInt to make. */
export function guildSubject(guildId: GuildId): string {
  return `guild.${String(partitionOf(guildId)).padStart(2, "0")}.${guildId}`;
}

/** The guild id of a subject, or undefined when the subject is not one of ours (wrong shape or partition). */
export function guildOfSubject(subject: string): GuildId | undefined {
  const guildId = subject.slice(9);
  if (!isSnowflake(guildId)) return undefined;
  return guildSubject(guildId) === subject ? guildId : undefined;
}

/** Where a worker's life is asked, and its member whoever lives now. */
export const askSubject = (memberOrLife: string): string => `worker.${memberOrLife}.ask`;

/** One incarnation of a member, as a token of a subject. */
export const lifeName = (id: string, incarnation: string): string => `${id}_${incarnation}`;

/** `handoff.<life>.<guildId>`, or `_` for what concerns the whole move. */
export const handoffSubject = (life: string, guildId: string): string => `handoff.${life}.${guildId}`;
export const handoffFilter = (life: string): string => `handoff.${life}.*`;
export const wholeMove = "_";

export const dbnodeSubjects = {
  saved: (id: string) => `dbnode.${id}.saved`,
  get: (id: string) => `dbnode.${id}.get`,
  allSaved: "dbnode.*.saved",
} as const;

export const clusterKeys = {
  topology: "topology",
  worker: (id: string) => `worker.${id}`,
  /** The child that is taking over from that worker. */
  hotboot: (id: string) => `hotboot.${id}`,
  dbnode: (id: string) => `dbnode.${id}`,
  shard: (shard: number) => `shard.${shard}`,
  session: (shard: number) => `session.${shard}`,
  identify: (bucket: number) => `identify.${bucket}`,
  identifyDaily: "identify.daily",
} as const;
