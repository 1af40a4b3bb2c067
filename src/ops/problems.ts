/**
 * Owns what is wrong with a cluster at one look, each with what to do: the end of `guildstream status`. Pure.
 * Only what somebody has to know or act on; what mends itself is in the tables.
 */
import { limits } from "../core/limits.js";
import type { ClusterStatus, DbnodeStatus } from "./status.js";
import { duration, names, plural, ranges } from "./view/format.js";

export interface Problem {
  problem: string;
  todo: string;
}

export function problemsOf(status: ClusterStatus): Problem[] {
  return [
    ...natsProblems(status),
    ...shardProblems(status),
    ...silenceProblems(status),
    ...dbnodeProblems(status.dbnodes),
    ...identifyProblems(status),
    ...workerProblems(status),
  ];
}

function natsProblems({ natsAwayMs, nats, log }: ClusterStatus): Problem[] {
  if (natsAwayMs === 0) return replicaProblems(log.behind);
  return [
    {
      problem: `NATS DOES NOT ANSWER for ${duration(natsAwayMs / 1_000)}: all this is how it was before`,
      todo: `see to the server at ${nats.server}; workers keep what comes and go on when it is back`,
    },
  ];
}

function replicaProblems(behind: readonly string[]): Problem[] {
  if (behind.length === 0) return [];
  return [
    {
      problem: `REPLICAS BEHIND: ${names(behind)} ${behind.length === 1 ? "has" : "have"} not all of the guild log`,
      todo: "see whether these nats-servers run; one more that dies may stop the log",
    },
  ];
}

function shardProblems({ unserved: all, shards, topology, workers }: ClusterStatus): Problem[] {
  // Who will be back has its shards kept; nobody else is to serve them.
  const away = new Set(workers.filter(({ status }) => status === "offline-temporary").map(({ id }) => id));
  const unserved = all.filter((shard) => !away.has(shards[shard]?.owner ?? ""));
  if (topology === null) {
    const todo = "start the first worker: npm run worker -- --bot FILE";
    return [{ problem: "there are no shards yet: no worker has been here", todo }];
  }
  if (unserved.length === 0) return [];
  const isAnyLive = workers.some((worker) => worker.live);
  return [
    {
      problem: `NOT SERVED: ${unserved.length === 1 ? "shard" : "shards"} ${ranges(unserved)}: no live worker has ${unserved.length === 1 ? "it" : "them"}`,
      todo: isAnyLive
        ? `live workers claim them within ${Math.ceil((limits.memberDeadMs + limits.claimIntervalMs) / 1_000)} s; if not, see claims_failed in their logs`
        : "start a worker: npm run worker -- --bot FILE",
    },
  ];
}

function silenceProblems({ workers, dbnodes }: ClusterStatus): Problem[] {
  const problem = (role: string, ids: string[]): Problem[] =>
    ids.length === 0
      ? []
      : [
          {
            problem: `SILENT: ${role}${ids.length === 1 ? "" : "s"} ${names(ids)}: no heartbeat comes`,
            todo: `see whether the process still runs on its host; start it again under the same --id, or leave it: live members take it off the list after a while`,
          },
        ];
  const silent = (members: readonly { id: string; live: boolean; status: string }[]): string[] =>
    members.filter(({ live, status }) => !live && status !== "offline-temporary").map(({ id }) => id);
  return [...problem("worker", silent(workers)), ...problem("database node", silent(dbnodes))];
}

function dbnodeProblems(nodes: readonly DbnodeStatus[]): Problem[] {
  const problems: Problem[] = [];
  if (!nodes.some((node) => node.live)) {
    problems.push({
      problem:
        "no database node is live: the log has every event, but guilds cannot leave the workers' memory",
      todo: "start one: npm run dbnode -- --data DIR",
    });
  }
  const quarantining = nodes.filter((node) => node.quarantined > 0);
  if (quarantining.length > 0) {
    problems.push({
      problem: `QUARANTINED: messages that cannot be applied, at ${names(quarantining.map(({ id }) => id))}`,
      todo: 'its log names each with the reason ("quarantined a message of the log"); the guild\'s next snapshot repairs it',
    });
  }
  if (doChecksumsDiffer(nodes)) {
    problems.push({
      problem: "WRONG: database nodes that saved the same events hold different states",
      todo: "keep their data folders for a report; a node started with an empty folder rebuilds itself from the log",
    });
  }
  return problems;
}

/** Only nodes that saved the same sequence can be compared. */
function doChecksumsDiffer(nodes: readonly DbnodeStatus[]): boolean {
  const checksums = new Map<string, Set<string>>();
  for (const node of nodes) {
    const at = `${node.streamCreated} ${node.saved}`;
    checksums.set(at, (checksums.get(at) ?? new Set()).add(node.checksum));
  }
  return [...checksums.values()].some((group) => group.size > 1);
}

function identifyProblems({ identify }: ClusterStatus): Problem[] {
  if (identify === null || identify.remaining > identify.kept || identify.resetInMs === 0) return [];
  const waiting =
    identify.waiting.length === 0 ? "" : `; shards ${ranges(identify.waiting)} wait for the reset`;
  return [
    {
      problem: `Discord's daily limit of new sessions is spent, none is begun for ${duration(identify.resetInMs / 1_000)}${waiting}`,
      todo: "leave the running workers alone (RESUMEs cost nothing); look for what spent them: session_invalidated in the logs, other programs with this token",
    },
  ];
}

function workerProblems({ workers, shards }: ClusterStatus): Problem[] {
  const problems: Problem[] = [];
  const paused = shards.filter(({ connection }) => connection === "paused");
  if (paused.length > 0) {
    problems.push({
      problem: `off the gateway because their worker's queue was full: shards ${ranges(paused.map(({ shard }) => shard))}`,
      todo: "they RESUME once it has drained and nothing is lost; add workers if it goes on",
    });
  }
  const full = workers.filter((worker) => worker.live && worker.backpressure);
  if (full.length > 0) {
    problems.push({
      problem: `MEMORY FULL and nothing may leave it, at ${names(full.map(({ id }) => id))}: dispatches wait at Discord`,
      todo: "see to the database nodes, which must save before a guild may leave; or raise --memory-mb",
    });
  }
  const failing = workers.filter((worker) => worker.live && worker.handlerErrors > 0);
  if (failing.length > 0) {
    const errors = failing.reduce((sum, worker) => sum + worker.handlerErrors, 0);
    problems.push({
      problem: `${plural(errors, "handler error")} since the start of ${names(failing.map(({ id }) => id))}`,
      todo: "the bot's code threw: handler_failed in the logs has each error with its dispatch",
    });
  }
  return problems;
}
