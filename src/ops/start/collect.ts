/** Owns gathering the summary's numbers from the running system, after the traffic and before anything is stopped. */
import { streamInfo } from "../../nats/stream-info.js";
import { rssBytes } from "../processes.js";
import type { Verdict } from "./oracle.js";
import type { SettleSources } from "./settle.js";
import type { Summary } from "./summary.js";
import type { System } from "./system.js";

export interface CollectSources extends SettleSources {
  system: System;
  verdict: Verdict | undefined;
  durationS: number;
  /** The log's end before this run. */
  baseSeq: number;
  bot: string;
  version: string;
}

export async function collect(sources: CollectSources): Promise<Omit<Summary, "problems">> {
  const { nc, list, system, verdict } = sources;
  const stats = await sources.simulator?.stats();
  const nodes = sources.dbnodeIds.map((id) => [id, list.dbnodes().get(id)] as const);
  const workers = [...list.workers().values()];
  const sum = (of: (worker: (typeof workers)[number]) => number): number =>
    workers.reduce((total, worker) => total + of(worker), 0);
  const rss: Record<string, number> = { supervisor: process.memoryUsage.rss() };
  for (const [name, pid] of Object.entries(system.pids)) {
    const bytes = await rssBytes(pid);
    if (bytes !== undefined) rss[name] = bytes;
  }
  const answers = stats?.answers;
  return {
    dispatches: verdict?.dispatches ?? null,
    handled: verdict?.handled ?? null,
    lost: verdict?.lost ?? null,
    duplicated: verdict?.duplicated ?? null,
    appended: (await streamInfo(nc)).lastSeq - sources.baseSeq,
    savedPerNode: Object.fromEntries(nodes.map(([id, node]) => [id, node?.saved ?? 0])),
    checksums: Object.fromEntries(nodes.map(([id, node]) => [id, node?.checksum ?? ""])),
    answers:
      answers === undefined
        ? null
        : {
            sent: answers.sent,
            late: answers.late,
            never: answers.never,
            p50Ms: answers.p50Ms,
            p99Ms: answers.p99Ms,
          },
    identifies: stats?.identifies ?? sum((worker) => worker.identifies),
    resumes: stats?.resumes ?? sum((worker) => worker.resumes),
    handlerErrors: sum((worker) => worker.handlerErrors),
    restarts: system.restarts,
    rssBytes: rss,
    durationS: Math.round(sources.durationS * 10) / 10,
    guilds: stats?.guilds ?? null,
    ratePerSecond: stats?.ratePerSecond ?? null,
    shards: list.topology()?.shardCount ?? null,
    seed: stats?.seed ?? null,
    bot: sources.bot,
    natsServerVersion: nc.info!.version,
    version: sources.version,
  };
}
