/**
 * Owns how a worker leaves without being taken for dead (membership.md): it says so in its entry, the others say in
 * theirs that they have noted it, and only then does it let go of anything.
 *
 * Invariants:
 * - "Noted" is the other's own word, in its own entry: it has counted us out of the shares, or keeps our shards for us.
 * - Every wait here is bounded, and ends early when nobody is left to wait for.
 */
import { limits } from "../core/limits.js";
import { connectedShards, takesShards, type WorkerEntry } from "../core/members.js";
import type { ClusterList, Listed } from "./list.js";

/** The incarnations of the workers that are leaving; goes into our own entry as `noted`. */
export function leavers(list: ClusterList): string[] {
  return [...list.workers().values()]
    .filter((worker) => worker.status === "dying" || worker.status === "offline-temporary")
    .map((worker) => worker.incarnation);
}

/** Beats at once when another worker begins to leave, instead of at the next interval. */
export function noteAtOnce(list: ClusterList, own: string): () => void {
  return list.onChange((key, news) => {
    if (news === "change" && key.startsWith("worker.") && key !== `worker.${own}`) void list.beat();
  });
}

/** The live workers that would take shards, ourselves left out. */
export function takers(list: ClusterList, own: string): Listed<WorkerEntry>[] {
  return [...list.workers().values()].filter(
    (worker) => worker.id !== own && worker.live && takesShards(worker.status),
  );
}

/** Waits until all live workers have noted that this incarnation leaves; the ids of those that have not in time. */
export async function allNoted(list: ClusterList, own: string, incarnation: string): Promise<string[]> {
  const missing = (): string[] =>
    takers(list, own).flatMap((worker) => (worker.noted.includes(incarnation) ? [] : [worker.id]));
  await listHolds(list, () => missing().length === 0, limits.noteTimeoutMs);
  return missing();
}

/** Waits until others serve these shards, connected; the shards that none serves in time, or none is there to serve. */
export async function servedElsewhere(
  list: ClusterList,
  own: string,
  shards: readonly number[],
): Promise<number[]> {
  const missing = (): number[] => {
    const served = new Set(takers(list, own).flatMap(connectedShards));
    return shards.filter((shard) => !served.has(shard));
  };
  const over = (): boolean => missing().length === 0 || takers(list, own).length === 0;
  await listHolds(list, over, limits.handOverTimeoutMs);
  return missing();
}

/** Looks again at every change of the list, and now and then, since silence changes it too. */
function listHolds(list: ClusterList, holds: () => boolean, timeoutMs: number): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      clearInterval(poll);
      stop();
      resolve();
    };
    const look = (): void => {
      if (holds()) done();
    };
    const timer = setTimeout(done, timeoutMs);
    const poll = setInterval(look, limits.heartbeatIntervalMs);
    const stop = list.onChange(look);
    look();
  });
}
