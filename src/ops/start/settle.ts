/**
 * Owns waiting until nothing moves any more: the workers have processed all they received, the database nodes have
 * saved all that was appended. Bounded; what is still open at the end is said.
 */
import type { ClusterList } from "../../cluster/list.js";
import { limits } from "../../core/limits.js";
import type { NatsConnection } from "../../nats/connect.js";
import { streamInfo } from "../../nats/stream-info.js";
import type { SimulatorClient } from "./simulator-client.js";

export interface SettleSources {
  nc: NatsConnection;
  list: ClusterList;
  simulator: SimulatorClient | undefined;
  /** Ids of the members that must be there. */
  workerIds: readonly string[];
  dbnodeIds: readonly string[];
}

/** Resolves with what is still open: nothing when all is settled. `onProgress` is called with it about once a second. */
export async function settle(
  sources: SettleSources,
  onProgress: (open: readonly string[]) => void,
): Promise<string[]> {
  const deadlineAt = performance.now() + limits.ops.settleTimeoutMs;
  let quietSince = performance.now();
  let before = "";
  let saidAt = performance.now();
  for (;;) {
    const { open, mark } = await look(sources).catch(() => ({
      open: ["an answer of the system"],
      mark: "?",
    }));
    const now = performance.now();
    if (open.length > 0 || mark !== before) quietSince = now;
    before = mark;
    // Heartbeats say how it was up to a second ago: it must have looked settled for longer than that.
    if (open.length === 0 && now - quietSince >= limits.ops.settleQuietMs) return [];
    if (now > deadlineAt) return open.length > 0 ? open : ["the numbers keep changing"];
    if (now - saidAt >= limits.ops.viewIntervalMs) {
      saidAt = now;
      onProgress(open);
    }
    await new Promise((resolve) => setTimeout(resolve, limits.ops.settlePollMs));
  }
}

/** What is open, and a mark that changes while anything moves. */
async function look(sources: SettleSources): Promise<{ open: string[]; mark: string }> {
  const [stream, stats] = await Promise.all([streamInfo(sources.nc), sources.simulator?.stats()]);
  const workers = sources.list.workers();
  const dbnodes = sources.list.dbnodes();
  const open: string[] = [];
  for (const id of sources.workerIds) {
    const worker = workers.get(id);
    if (worker === undefined || !worker.live || worker.status !== "ready") open.push(`${id} to be ready`);
    else if (worker.queued > 0) open.push(`${id}: ${worker.queued} dispatches to be processed`);
    else if (worker.dirtyGuilds > 0) open.push(`${id}: ${worker.dirtyGuilds} guilds to be saved`);
  }
  for (const id of sources.dbnodeIds) {
    const node = dbnodes.get(id);
    if (node === undefined || !node.live) open.push(`${id} to be ready`);
    else if (node.saved < stream.lastSeq)
      open.push(`${id}: ${stream.lastSeq - node.saved} events to be saved`);
  }
  const unsent = stats?.sessions.reduce((sum, session) => sum + session.unsent, 0) ?? 0;
  if (unsent > 0) open.push(`${unsent} dispatches to be received`);
  if ((stats?.answers.pending ?? 0) > 0) open.push(`${stats!.answers.pending} interactions to be answered`);
  const counts = [...workers.values()].map((worker) => worker.dispatches);
  return { open, mark: JSON.stringify([stream.lastSeq, counts, stats?.dispatches]) };
}
