/**
 * Owns `guildstream status`: one look at the cluster, from the list-server and the guild log. Reads only.
 */
import type { ClusterList, Listed } from "../cluster/list.js";
import type { DbnodeEntry, WorkerEntry } from "../core/members.js";
import { guildsStream } from "../core/subjects.js";
import { type NatsConnection, redactUrl } from "../nats/connect.js";
import { megabytes, plural, whole } from "./view/format.js";

export interface ClusterStatus {
  nats: { server: string; version: string };
  log: { messages: number; bytes: number; lastSeq: number; guilds: number };
  topology: { epoch: number; shardCount: number } | null;
  /** Shards that no live worker serves. */
  unserved: number[];
  workers: Listed<WorkerEntry>[];
  dbnodes: Listed<DbnodeEntry>[];
}

export async function readStatus(nc: NatsConnection, list: ClusterList): Promise<ClusterStatus> {
  const manager = await nc.jetstreamManager({ checkAPI: false });
  const { state } = await manager.streams.info(guildsStream);
  const topology = list.topology();
  const byId = (a: { id: string }, b: { id: string }): number => a.id.localeCompare(b.id);
  const workers = [...list.workers().values()].sort(byId);
  const served = new Set(workers.filter((worker) => worker.live).flatMap((worker) => worker.shards));
  const shards = Array.from({ length: topology?.shardCount ?? 0 }, (_, shard) => shard);
  return {
    nats: { server: redactUrl(nc.getServer()), version: nc.info?.version ?? "" },
    log: {
      messages: state.messages,
      bytes: state.bytes,
      lastSeq: state.last_seq,
      guilds: state.num_subjects ?? 0,
    },
    topology: topology === undefined ? null : { epoch: topology.epoch, shardCount: topology.shardCount },
    unserved: shards.filter((shard) => !served.has(shard)),
    workers,
    dbnodes: [...list.dbnodes().values()].sort(byId),
  };
}

/** Whether the member is live and ready; undefined when nobody of that name is known. */
export function isMemberReady(status: ClusterStatus, id: string): boolean | undefined {
  const member = [...status.workers, ...status.dbnodes].find((candidate) => candidate.id === id);
  return member === undefined ? undefined : member.live && member.status === "ready";
}

export function renderStatus(status: ClusterStatus): string {
  const { log, nats, topology } = status;
  const shards = topology === null ? "no shards yet" : plural(topology.shardCount, "shard");
  const unserved = status.unserved.length === 0 ? "" : `; NOT SERVED: ${status.unserved.join(", ")}`;
  const lines = [
    `nats-server ${nats.version} at ${nats.server}`,
    `guild log   ${plural(log.guilds, "guild")}, ${plural(log.messages, "message")}, ${megabytes(log.bytes)}, up to ${whole(log.lastSeq)}`,
    `cluster     ${shards}${unserved}`,
    "",
    ...(status.workers.length === 0 ? ["no workers"] : status.workers.map(workerLine)),
    ...(status.dbnodes.length === 0
      ? ["no database nodes"]
      : status.dbnodes.map((node) => nodeLine(node, log.lastSeq))),
    ...checksumLines(status.dbnodes),
  ];
  return `${lines.join("\n")}\n`;
}

function workerLine(worker: Listed<WorkerEntry>): string {
  const parts = [
    `shards ${worker.shards.join(" ") || "none"}`,
    `${plural(worker.guilds, "guild")} in memory (${whole(worker.dirtyGuilds)} unsaved)`,
    `${whole(worker.handled)} handled`,
    `${whole(worker.appended)} appended`,
    ...(worker.savedBy === 0 ? ["SAVED BY NO DATABASE NODE"] : []),
    ...(worker.backpressure ? ["MEMORY FULL, off the gateway"] : []),
    ...(worker.handlerErrors > 0 ? [plural(worker.handlerErrors, "handler error")] : []),
    ...(worker.queued > 0 ? [`${whole(worker.queued)} waiting`] : []),
    megabytes(worker.rssBytes),
    `bot ${worker.bot}`,
  ];
  return `${head(worker)}${parts.join(", ")}`;
}

function nodeLine(node: Listed<DbnodeEntry>, lastSeq: number): string {
  const parts = [
    `received ${whole(node.received)}`,
    `saved ${whole(node.saved)}${node.saved < lastSeq ? ` (${whole(lastSeq - node.saved)} behind)` : ""}`,
    plural(node.guilds, "guild"),
    ...(node.quarantined > 0 ? [`QUARANTINED ${whole(node.quarantined)}`] : []),
    megabytes(node.rssBytes),
    `state ${node.checksum}`,
  ];
  return `${head(node)}${parts.join(", ")}`;
}

function head(member: { id: string; status: string; live: boolean }): string {
  return `${member.id.padEnd(16)} ${(member.live ? member.status : "silent").padEnd(10)}`;
}

/** Only nodes that saved the same sequence can be compared. */
function checksumLines(nodes: readonly Listed<DbnodeEntry>[]): string[] {
  const checksums = new Map<string, Set<string>>();
  for (const node of nodes) {
    const at = `${node.streamCreated} ${node.saved}`;
    checksums.set(at, (checksums.get(at) ?? new Set()).add(node.checksum));
  }
  const differ = [...checksums.values()].some((group) => group.size > 1);
  return differ ? ["", "WRONG: database nodes that saved the same events hold different states"] : [];
}
