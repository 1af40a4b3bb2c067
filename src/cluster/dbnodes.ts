/**
 * Owns what this worker knows of the database nodes: who is live, what each has saved, and up to where an event
 * counts as saved ("by all live nodes, at least one").
 *
 * Invariant: the watermark never covers a sequence that fewer than one node has fsynced; with no live node it stands.
 * A node's saved sequence counts only within the stream's incarnation it names.
 */
import { type SavedAnnouncement, savedAnnouncement } from "../core/members.js";
import { dbnodeSubjects } from "../core/subjects.js";
import type { NatsConnection } from "../nats/connect.js";
import { subscribeJson } from "../nats/messages.js";
import type { ClusterList } from "./list.js";

export class DbnodeWatch {
  readonly #list: ClusterList;
  readonly #announced = new Map<string, SavedAnnouncement>();
  readonly #onSaved: (watermark: number) => void;
  readonly #stop: (() => void)[];
  #watermark = 0;
  #next = 0;

  constructor(nc: NatsConnection, list: ClusterList, onSaved: (watermark: number) => void) {
    this.#list = list;
    this.#onSaved = onSaved;
    this.#stop = [
      subscribeJson(nc, dbnodeSubjects.allSaved, savedAnnouncement, (saved) => {
        this.#announced.set(saved.id, saved);
        this.#advance();
      }),
      list.onChange((key) => key.startsWith("dbnode.") && this.#advance()),
    ];
  }

  stop(): void {
    for (const stop of this.#stop) stop();
  }

  get watermark(): number {
    return this.#watermark;
  }

  /** Ids of the live nodes, starting with another one each time: requests spread. */
  liveIds(): string[] {
    const ids = [...this.#list.dbnodes().values()]
      .filter((node) => node.live && node.status === "ready")
      .map((node) => node.id)
      .sort();
    if (ids.length === 0) return ids;
    this.#next = (this.#next + 1) % ids.length;
    return [...ids.slice(this.#next), ...ids.slice(0, this.#next)];
  }

  #advance(): void {
    let lowest = Number.POSITIVE_INFINITY;
    for (const node of this.#list.dbnodes().values()) {
      if (!node.live || node.status === "booting") continue;
      const announced = this.#announced.get(node.id);
      const fresh = announced?.streamCreated === node.streamCreated ? announced.saved : 0;
      lowest = Math.min(lowest, Math.max(node.saved, fresh));
    }
    if (!Number.isFinite(lowest) || lowest === this.#watermark) return;
    this.#watermark = lowest;
    this.#onSaved(lowest);
  }
}
