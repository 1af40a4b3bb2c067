/**
 * Owns taking pictures of the running system: the list-server's entries, the log's end, the simulator's statistics.
 * A part that does not answer now (its process is being started again) keeps its last numbers; nothing here throws.
 */
import type { ClusterList } from "../../cluster/list.js";
import { savedAnnouncement } from "../../core/members.js";
import { dbnodeSubjects } from "../../core/subjects.js";
import type { NatsConnection } from "../../nats/connect.js";
import { subscribeJson } from "../../nats/messages.js";
import { streamInfo } from "../../nats/stream-info.js";
import type { StatsReport } from "../../simulator/index.js";
import type { Picture } from "../view/frame.js";
import type { LiveCheck } from "./live-check.js";
import type { SimulatorClient } from "./simulator-client.js";

export interface PictureSources {
  nc: NatsConnection;
  list: ClusterList;
  simulator: SimulatorClient | undefined;
  /** The log's end before this run. */
  baseSeq: number;
  /** Looks at guilds while it runs; undefined where nothing can be compared. */
  check: LiveCheck | undefined;
  notes: readonly string[];
}

export class Pictures {
  phase = "running";
  readonly #sources: PictureSources;
  readonly #startedAt = performance.now();
  #stats: StatsReport | undefined;
  #streamLast: number;
  #before = { at: performance.now(), dispatches: 0, appended: 0 };

  /** Heartbeats are up to a second old; what nodes announce is not. */
  readonly #saved = new Map<string, number>();
  readonly #unsubscribe: () => void;

  constructor(sources: PictureSources) {
    this.#sources = sources;
    this.#unsubscribe = subscribeJson(
      sources.nc,
      dbnodeSubjects.allSaved,
      savedAnnouncement,
      ({ id, saved }) => this.#saved.set(id, saved),
    );
    this.#streamLast = sources.baseSeq;
  }

  stop(): void {
    this.#unsubscribe();
  }

  get elapsedS(): number {
    return (performance.now() - this.#startedAt) / 1_000;
  }

  async take(): Promise<Picture> {
    const { nc, list, simulator, baseSeq, check, notes } = this.#sources;
    const [stats, stream] = await Promise.all([
      simulator?.stats().catch(() => undefined),
      streamInfo(nc).catch(() => undefined),
    ]);
    this.#stats = stats ?? this.#stats;
    this.#streamLast = stream?.lastSeq ?? this.#streamLast;
    const workers = [...list.workers().values()].sort((a, b) => a.id.localeCompare(b.id));
    const counted = workers.reduce((sum, worker) => sum + worker.dispatches, 0);
    const dispatches = this.#stats?.dispatches ?? counted;
    const appended = Math.max(0, this.#streamLast - baseSeq);
    const now = performance.now();
    const seconds = Math.max(0.001, (now - this.#before.at) / 1_000);
    const perS = (current: number, before: number): number => Math.max(0, (current - before) / seconds);
    const picture: Picture = {
      phase: this.phase,
      elapsedS: this.elapsedS,
      guilds: this.#stats?.guilds,
      dispatches,
      dispatchesPerS: perS(dispatches, this.#before.dispatches),
      appended,
      appendedPerS: perS(appended, this.#before.appended),
      streamLast: this.#streamLast,
      dbnodes: [...list.dbnodes().values()]
        .sort((a, b) => a.id.localeCompare(b.id))
        .map((node) => {
          const saved = Math.max(node.saved, this.#saved.get(node.id) ?? 0);
          return { id: node.id, live: node.live, saved, received: Math.max(node.received, saved) };
        }),
      workers,
      answers: this.#stats?.answers,
      check:
        check === undefined
          ? undefined
          : { guilds: check.looks, lost: check.lost, duplicated: check.duplicated },
      notes,
    };
    this.#before = { at: now, dispatches, appended };
    return picture;
  }
}
