/**
 * Owns what this worker knows of the database nodes: who is live, what each has saved, up to where an event counts as
 * saved ("by all live nodes, at least one"), and in which order to ask them for a guild.
 *
 * Invariants:
 * - The watermark never covers a sequence that fewer than one node has fsynced; with no node that counts it stands.
 * - A node that is booting or silent does not count and is not asked. One that comes back counts with what it says
 *   then: the watermark may fall. That makes nothing dirty again that was saved, only later appends wait for the node;
 *   they cannot wait for ever, since a live node goes on saving and a dead one stops counting.
 * - Sequences compare only within one life of the stream: what a node said of an older one is worth nothing, and after
 *   a rewind (`distrust`) neither is anything said before it.
 *
 * Who is live is looked at with every change in the list, and each second: silence changes nothing by itself.
 */

import { limits } from "../core/limits.js";
import { type DbnodeEntry, type SavedAnnouncement, savedAnnouncement } from "../core/members.js";
import { dbnodeSubjects } from "../core/subjects.js";
import type { NatsConnection } from "../nats/connect.js";
import { subscribeJson } from "../nats/messages.js";
import type { ClusterList, Listed } from "./list.js";
import { type NodeCandidate, NodeChoice, type NodeOrder } from "./node-choice.js";

type Word = Pick<SavedAnnouncement, "saved" | "streamCreated">;

export class DbnodeWatch {
  /** Whoever asks a node reports here what came of it. */
  readonly choice = new NodeChoice();
  readonly #list: ClusterList;
  readonly #onSaved: (watermark: number) => void;
  readonly #stop: (() => void)[];
  /** What each node said last, in its entry or by announcement. */
  readonly #words = new Map<string, Word>();
  #counting: Listed<DbnodeEntry>[] = [];
  #watermark = 0;

  constructor(nc: NatsConnection, list: ClusterList, onSaved: (watermark: number) => void) {
    this.#list = list;
    this.#onSaved = onSaved;
    for (const node of list.dbnodes().values()) this.#words.set(node.id, node);
    this.#look();
    const timer = setInterval(() => this.#look(), limits.heartbeatIntervalMs);
    this.#stop = [
      () => clearInterval(timer),
      subscribeJson(nc, dbnodeSubjects.allSaved, savedAnnouncement, (saved) => {
        this.#words.set(saved.id, saved);
        this.#advance();
      }),
      list.onChange((key) => this.#onChange(key)),
    ];
  }

  stop(): void {
    for (const stop of this.#stop) stop();
  }

  get watermark(): number {
    return this.#watermark;
  }

  /** How many nodes count: "saved" means saved by all of these. None: nothing is saved until one is back. */
  get savedBy(): number {
    return this.#counting.length;
  }

  /** Whom to ask for a guild now. */
  order(now: number): NodeOrder {
    const created = this.#streamCreated();
    const nodes = this.#counting.filter((node) => node.status === "ready");
    const at = nodes.map((node) => Math.max(this.#savedOf(node.id, created), this.#received(node, created)));
    const furthest = Math.max(...at);
    const candidates = nodes.map(({ id }, index): NodeCandidate => ({ id, lag: furthest - at[index]! }));
    return this.choice.order(candidates, now);
  }

  /** The stream is not what it was: what was said so far is not of this one. Each node counts from its next word. */
  distrust(): void {
    this.#words.clear();
    this.#advance();
  }

  #onChange(key: string): void {
    if (!key.startsWith("dbnode.")) return;
    const node = this.#list.dbnodes().get(key.slice("dbnode.".length));
    if (node !== undefined) this.#words.set(node.id, node);
    this.#look();
  }

  #look(): void {
    const nodes = [...this.#list.dbnodes().values()];
    this.#counting = nodes.filter((node) => node.live && node.status !== "booting");
    this.#advance();
  }

  #advance(): void {
    if (this.#counting.length === 0) return;
    const created = this.#streamCreated();
    const lowest = Math.min(...this.#counting.map((node) => this.#savedOf(node.id, created)));
    if (lowest === this.#watermark) return;
    this.#watermark = lowest;
    this.#onSaved(lowest);
  }

  #savedOf(id: string, created: string): number {
    const word = this.#words.get(id);
    return word?.streamCreated === created ? word.saved : 0;
  }

  #received(node: DbnodeEntry, created: string): number {
    return node.streamCreated === created ? node.received : 0;
  }

  /** The life of the stream that the nodes speak of: the latest. Who still speaks of an older one has yet to notice. */
  #streamCreated(): string {
    let latest = "";
    for (const { id } of this.#counting) {
      const created = this.#words.get(id)?.streamCreated ?? "";
      if (latest === "" || Date.parse(created) > Date.parse(latest)) latest = created;
    }
    return latest;
  }
}
