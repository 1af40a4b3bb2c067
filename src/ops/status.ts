/**
 * Owns what `guildstream status` knows: one look at the cluster, from the list-server and the guild log. Reads only.
 * The fields are what `--json` prints, so their names are part of the command line; the README lists them.
 */
import type { ClusterList, Listed } from "../cluster/list.js";
import { bucketOf, reserveOf } from "../core/identify.js";
import { limits } from "../core/limits.js";
import type { DbnodeEntry, WorkerEntry } from "../core/members.js";
import { clusterKeys, guildsStream } from "../core/subjects.js";
import { type NatsConnection, redactUrl } from "../nats/connect.js";
import type { Heartbeats } from "./heartbeats.js";
import { type Problem, problemsOf } from "./problems.js";

export type WorkerStatus = Listed<WorkerEntry> & {
  /** Between its last two heartbeats; null while it has not been heard twice. */
  handledPerS: number | null;
};

export type DbnodeStatus = Listed<DbnodeEntry> & {
  /** Messages of the log that it has not saved yet. */
  lag: number;
};

/** `unserved`: no live worker has it. `paused`: off the gateway until its worker's queue has drained. */
export type ShardConnection = "connected" | "connecting" | "identifying" | "paused" | "unserved";

export interface ShardStatus {
  shard: number;
  /** The worker whose claim it is, live or not. */
  owner: string | null;
  connection: ShardConnection;
}

export interface IdentifyStatus {
  total: number;
  remaining: number;
  /** Of the remaining, never spent. */
  kept: number;
  /** 0: the day is over, and Discord is asked at the next IDENTIFY. */
  resetInMs: number;
  maxConcurrency: number;
  /** Shards that wait for their turn, or for the reset. */
  waiting: number[];
  /** Buckets that have had a turn, with the shard and the worker that had the last one. */
  buckets: { bucket: number; shard: number; by: string }[];
}

export interface ClusterStatus {
  /** Unix ms of this look, by the clock of the machine that looks. */
  at: number;
  /** How old this look is because NATS does not answer; 0 when it does. */
  natsAwayMs: number;
  nats: { server: string; version: string };
  log: {
    messages: number;
    bytes: number;
    lastSeq: number;
    guilds: number;
    /** Servers that hold it, and the names of those that do not have all of it just now. */
    replicas: number;
    behind: string[];
  };
  topology: { epoch: number; shardCount: number } | null;
  shards: ShardStatus[];
  /** The shards that no live worker serves. */
  unserved: number[];
  workers: WorkerStatus[];
  dbnodes: DbnodeStatus[];
  /** Null until a worker has asked Discord for the first time. */
  identify: IdentifyStatus | null;
  problems: Problem[];
}

export async function readStatus(
  nc: NatsConnection,
  list: ClusterList,
  heartbeats: Heartbeats,
): Promise<ClusterStatus> {
  const manager = await nc.jetstreamManager({ timeout: limits.natsRequestTimeoutMs, checkAPI: false });
  const { state, config, cluster } = await manager.streams.info(guildsStream);
  const topology = list.topology();
  const byId = (a: { id: string }, b: { id: string }): number =>
    a.id.localeCompare(b.id, "en", { numeric: true });
  const workers = [...list.workers().values()].sort(byId).map((worker) => ({
    ...worker,
    live: heartbeats.isLive(clusterKeys.worker(worker.id)),
    handledPerS: heartbeats.handledPerS(worker.id) ?? null,
  }));
  const dbnodes = [...list.dbnodes().values()].sort(byId).map((node) => ({
    ...node,
    live: heartbeats.isLive(clusterKeys.dbnode(node.id)),
    lag: Math.max(0, state.last_seq - node.saved),
  }));
  const shards = shardsOf(list, workers, topology?.shardCount ?? 0);
  const status: ClusterStatus = {
    at: Date.now(),
    natsAwayMs: 0,
    nats: { server: redactUrl(nc.getServer()), version: nc.info?.version ?? "" },
    log: {
      messages: state.messages,
      bytes: state.bytes,
      lastSeq: state.last_seq,
      guilds: state.num_subjects ?? 0,
      replicas: config.num_replicas,
      behind: (cluster?.replicas ?? [])
        .filter((peer) => peer.offline || !peer.current)
        .map((peer) => peer.name),
    },
    topology: topology === undefined ? null : { epoch: topology.epoch, shardCount: topology.shardCount },
    shards,
    unserved: shardsThatAre(shards, "unserved"),
    workers,
    dbnodes,
    identify: identifyOf(list, workers),
    problems: [],
  };
  return { ...status, problems: problemsOf(status) };
}

/** Whether the member is live and ready; undefined when nobody of that name is known. */
export function isMemberReady(status: ClusterStatus, id: string): boolean | undefined {
  const member = [...status.workers, ...status.dbnodes].find((candidate) => candidate.id === id);
  return member === undefined ? undefined : member.live && member.status === "ready";
}

export function shardsThatAre(shards: readonly ShardStatus[], connection: ShardConnection): number[] {
  return shards.filter((shard) => shard.connection === connection).map(({ shard }) => shard);
}

function shardsOf(list: ClusterList, workers: readonly WorkerStatus[], shardCount: number): ShardStatus[] {
  const holders = new Map<number, WorkerStatus>();
  for (const worker of workers) {
    if (worker.live) for (const shard of worker.shards) holders.set(shard, worker);
  }
  return Array.from({ length: shardCount }, (_, shard) => {
    const holder = holders.get(shard);
    const owner = list.shard(shard)?.owner || holder?.id || null;
    return { shard, owner, connection: holder === undefined ? "unserved" : connectionOf(shard, holder) };
  });
}

function connectionOf(shard: number, { offline }: WorkerStatus): ShardConnection {
  for (const state of ["connecting", "identifying", "paused"] as const) {
    if (offline[state].includes(shard)) return state;
  }
  return "connected";
}

function identifyOf(list: ClusterList, workers: readonly WorkerStatus[]): IdentifyStatus | null {
  const daily = list.identifyDaily();
  if (daily === undefined) return null;
  const { total, remaining, maxConcurrency } = daily;
  const waiting = workers.filter(({ live }) => live).flatMap(({ offline }) => offline.identifying);
  const lastTurns = Array.from({ length: maxConcurrency }, (_, bucket) => list.identifyTurn(bucket));
  return {
    total,
    remaining,
    kept: reserveOf(total),
    // Discord's clock and this machine's may differ a little: good enough for people.
    resetInMs: Math.max(0, daily.resetAt - Date.now()),
    maxConcurrency,
    waiting: waiting.sort((a, b) => a - b),
    buckets: lastTurns
      .filter((turn) => turn !== undefined)
      .map(({ shard, by }) => ({ bucket: bucketOf(shard, maxConcurrency), shard, by })),
  };
}
