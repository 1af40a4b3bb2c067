/**
 * Owns the shapes of the list-server's entries: what workers, database nodes, shards and sessions say of themselves.
 * Everything read from the list is validated by these schemas; an entry that fails is ignored by name, never trusted.
 */
import { z } from "zod";
import { assert } from "./errors.js";

const count = z.number().int().nonnegative();

/**
 * - booting: in the list, not serving yet (a worker takes shards, a database node catches up).
 * - ready: serves.
 * - draining: a database node that saves what it holds before it leaves.
 * - hotboot: a worker that takes over guild by guild from the one it replaces; it takes no shards by itself.
 * - offline-temporary: a worker that will be back under the same id; its shards are kept for it for a while.
 * - dying: a worker that hands everything over and leaves.
 */
export const memberStatus = z.enum(["booting", "ready", "draining", "hotboot", "offline-temporary", "dying"]);
export type MemberStatus = z.infer<typeof memberStatus>;

const legalStatuses: Record<MemberStatus, readonly MemberStatus[]> = {
  booting: ["ready", "draining", "offline-temporary", "dying"],
  ready: ["draining", "offline-temporary", "dying"],
  hotboot: ["booting", "ready", "dying"],
  draining: [],
  "offline-temporary": ["booting"],
  dying: [],
};

/** The member's next status; anything but a legal step is a bug of ours. */
export function nextStatus(from: MemberStatus, to: MemberStatus): MemberStatus {
  assert(legalStatuses[from].includes(to), `member status ${from} -> ${to}`);
  return to;
}

/** Whether a worker of this status holds shards for good: others leave it its share. */
export function takesShards(status: MemberStatus): boolean {
  return status === "booting" || status === "ready";
}

const member = {
  id: z.string(),
  incarnation: z.string(),
  status: memberStatus,
  version: z.string(),
  host: z.string(),
  pid: count,
  /** Unix ms by the member's own clock; for people, never for judging liveness. */
  at: z.number(),
  rssBytes: count,
};

/** A hotboot as the parent tells it; `step` is a ParentStep of core/handoff.ts. */
export const hotbootProgress = z.object({
  /** Which hotboot of this process it is, from 1. */
  attempt: count,
  step: z.string(),
  dryRun: z.boolean(),
  /** The child's life. */
  to: z.string(),
  shardsMoved: count,
  shardsTotal: count,
  guildsMoved: count,
  guildsTotal: count,
  /** Of the guilds that have moved: from its lock at the parent until the child has it. */
  pauseP50Ms: z.number(),
  pauseP99Ms: z.number(),
  pauseMaxMs: z.number(),
  elapsedMs: count,
  /** Of it, since the first shard began to move. */
  handingMs: count,
  /** Why the parent stays. */
  reason: z.string().optional(),
});
export type HotbootProgress = z.infer<typeof hotbootProgress>;

export const workerEntry = z.object({
  ...member,
  bot: z.string(),
  shards: z.array(count),
  /** Of these the ones off the gateway: on their way, waiting for leave to IDENTIFY, off until the queue has drained. */
  offline: z
    .object({ connecting: z.array(count), identifying: z.array(count), paused: z.array(count) })
    .default({ connecting: [], identifying: [], paused: [] }),
  /** Incarnations of leaving workers (dying, offline-temporary) that this one has taken note of. */
  noted: z.array(z.string()).default([]),
  /** The incarnation that is taking this one's place (hotboot): what it has claimed counts as this one's. */
  successor: z.string().default(""),
  /** Of the hotboot underway, or the last one. */
  hotboot: hotbootProgress.optional(),
  /** Guilds in memory, and of these the ones not yet saved by enough database nodes. */
  guilds: count,
  dirtyGuilds: count,
  /** Totals since the process started. */
  dispatches: count,
  handled: count,
  skipped: count,
  appended: count,
  handlerErrors: count,
  effectsSent: count,
  effectsDropped: count,
  fenced: count,
  identifies: count,
  resumes: count,
  /** Messages in rings, not yet processed. */
  queued: count,
  /** Database nodes that must have saved a guild before it is clean; none: all of it is held in memory. */
  savedBy: count.default(0),
  /** Memory is full and nothing more may leave: dispatches wait in the rings, then at Discord. */
  backpressure: z.boolean().default(false),
});
export type WorkerEntry = z.infer<typeof workerEntry>;

/** The shards of a worker whose sessions are connected: the ones it really serves. */
export function connectedShards({ shards, offline }: Pick<WorkerEntry, "shards" | "offline">): number[] {
  const { connecting, identifying, paused } = offline;
  const off = new Set([...connecting, ...identifying, ...paused]);
  return shards.filter((shard) => !off.has(shard));
}

export const dbnodeEntry = z.object({
  ...member,
  /** Stream sequences: what the JetStream ack covered, what is fsynced, where the stream ended when last asked. */
  received: count,
  saved: count,
  streamLast: count,
  /** The stream's created time: sequences compare only within one incarnation of the stream. */
  streamCreated: z.string(),
  guilds: count,
  quarantined: count,
  /** 16 hex digits over all guilds; equal on nodes that saved the same sequence. */
  checksum: z.string(),
});
export type DbnodeEntry = z.infer<typeof dbnodeEntry>;

export const topologyEntry = z.object({ epoch: count, shardCount: z.number().int().positive() });
export type TopologyEntry = z.infer<typeof topologyEntry>;

export const shardEntry = z.object({ owner: z.string(), incarnation: z.string(), at: z.number() });
export type ShardEntry = z.infer<typeof shardEntry>;

/** A shard's checkpoint: everything up to `s` of this session is durable. */
export const sessionEntry = z.object({
  sessionId: z.string(),
  resumeUrl: z.string(),
  s: count,
  shardCount: z.number().int().positive(),
  at: z.number(),
});
export type SessionEntry = z.infer<typeof sessionEntry>;

/** Announced on `dbnode.<id>.saved` after each flush. */
export const savedAnnouncement = z.object({ id: z.string(), saved: count, streamCreated: z.string() });
export type SavedAnnouncement = z.infer<typeof savedAnnouncement>;

/** Request on `dbnode.<id>.get`: the guild, "at least" this stream sequence. */
export const getRequest = z.object({ v: z.literal(1), guildId: z.string(), atLeastSeq: count });
export type GetRequest = z.infer<typeof getRequest>;

/** A guild's document on its way from one process to another. */
export const documentShape = z.object({
  state: z.unknown(),
  rev: count,
  epoch: count,
  seq: count,
  by: z.string(),
  cursor: z.object({ session: z.string(), s: count }).nullable(),
});

/** The node's answer: the document, or that it does not know the guild, or how far it is. */
export const getReply = z.discriminatedUnion("outcome", [
  z.object({
    outcome: z.literal("found"),
    document: documentShape,
  }),
  z.object({ outcome: z.literal("unknown"), saved: count }),
  z.object({ outcome: z.literal("behind"), received: count }),
  z.object({ outcome: z.literal("quarantined"), reason: z.string() }),
]);
export type GetReply = z.infer<typeof getReply>;
