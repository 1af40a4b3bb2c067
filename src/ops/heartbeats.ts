/**
 * Owns what an onlooker has heard of the members while it listens: whose heartbeats come, and how much each worker
 * handles in a second. An entry alone tells neither: the entry of a dead process stays in the list.
 *
 * Invariant: silence is timed by the onlooker's own clock; a rate is of two entries of one life, by that worker's clock.
 */
import type { ClusterList } from "../cluster/list.js";
import { limits } from "../core/limits.js";
import type { WorkerEntry } from "../core/members.js";

type Count = Pick<WorkerEntry, "incarnation" | "handled" | "at">;

export class Heartbeats {
  readonly #list: ClusterList;
  readonly #patienceMs: number;
  readonly #since = performance.now();
  readonly #heardAtMs = new Map<string, number>();
  readonly #before = new Map<string, Count>();
  readonly #perS = new Map<string, number>();
  readonly stop: () => void;

  /** @param patienceMs how long a member that has not been heard yet counts as live. */
  constructor(list: ClusterList, patienceMs: number) {
    this.#list = list;
    this.#patienceMs = patienceMs;
    for (const worker of list.workers().values()) this.#before.set(worker.id, worker);
    this.stop = list.onChange((key) => this.#onChange(key));
  }

  isLive(key: string): boolean {
    const heardAtMs = this.#heardAtMs.get(key);
    const now = performance.now();
    if (heardAtMs === undefined) return now - this.#since < this.#patienceMs;
    return now - heardAtMs < limits.ops.silentAfterMs;
  }

  /** Dispatches a second, between the worker's last two heartbeats; undefined while only one has come. */
  handledPerS(id: string): number | undefined {
    return this.#perS.get(id);
  }

  #onChange(key: string): void {
    this.#heardAtMs.set(key, performance.now());
    if (!key.startsWith("worker.")) return;
    const worker = this.#list.workers().get(key.slice("worker.".length));
    if (worker === undefined) return;
    const before = this.#before.get(worker.id);
    const elapsedMs = before?.incarnation === worker.incarnation ? worker.at - before.at : Number.NaN;
    // Beside the heartbeats entries come for changes of status: too close to tell a rate.
    if (elapsedMs < limits.heartbeatIntervalMs / 2) return;
    this.#before.set(worker.id, worker);
    if (Number.isNaN(elapsedMs)) this.#perS.delete(worker.id);
    else this.#perS.set(worker.id, ((worker.handled - before!.handled) * 1_000) / elapsedMs);
  }
}
