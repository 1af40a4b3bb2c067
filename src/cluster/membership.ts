/**
 * Owns this process' own entry in the list: taking the id, heartbeats, leaving.
 *
 * Invariants:
 * - A member id is held by one process. Every write of the entry is a compare-and-set on our own last one, so of two
 *   processes with one id exactly one goes on; the other is told by name (MEMBER_ID_TAKEN).
 * - One write is under way at a time: a list-server that was away is not flooded with old heartbeats.
 *
 * If the process dies its entry stays and falls silent; the others judge it by their own clocks, and sweep it out later.
 */
import type { Logger } from "../core/bot.js";
import { GuildstreamError, messageOf } from "../core/errors.js";
import { limits } from "../core/limits.js";
import type { DbnodeEntry, WorkerEntry } from "../core/members.js";
import type { ClusterList } from "./list.js";

export type OwnEntry = WorkerEntry | DbnodeEntry;

export interface MembershipOptions {
  list: ClusterList;
  log: Logger;
  key: string;
  entry: () => OwnEntry;
  /** Another process took the id: this one has no place in the list any more. */
  onTaken?: ((error: GuildstreamError) => void) | undefined;
}

export class Membership {
  readonly #options: MembershipOptions;
  /** Of our last write; 0 before the first and after the list was made anew. */
  #revision = 0;
  /** Every incarnation that this process has beaten as: a write whose answer was lost is recognised by it. */
  readonly #ours = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  #stopRebuilt: () => void = () => {};
  #beating: Promise<void> | undefined;
  #again = false;
  #stopped = false;

  constructor(options: MembershipOptions) {
    this.#options = options;
  }

  /** @throws GuildstreamError MEMBER_ID_TAKEN */
  async join(): Promise<void> {
    const { list, key } = this.#options;
    await this.#refuseTakenId();
    const before = list.revisionOf(key);
    const taken = await this.#write(before).catch((error: unknown) => {
      this.#revision = before; // The next beat tries to write over the same.
      return this.#trouble(error);
    });
    if (taken !== undefined) {
      this.stop();
      throw taken;
    }
    this.#begin();
  }

  /** Takes over the entry of exactly this revision; false when it is not there any more. */
  async joinOver(revision: number): Promise<boolean> {
    if ((await this.#write(revision)) !== undefined) return false;
    this.#begin();
    return true;
  }

  /** Ends the heartbeats once none is underway; the entry stays. Its revision. */
  async pause(): Promise<number> {
    this.stop();
    await this.#beating;
    return this.#revision;
  }

  /** Resolves when an entry that was made after this call is written, or could not be. */
  beat(): Promise<void> {
    if (this.#stopped) return Promise.resolve();
    if (this.#beating === undefined) this.#beating = this.#beat();
    else this.#again = true;
    return this.#beating;
  }

  stop(): void {
    this.#stopped = true;
    clearInterval(this.#timer);
    this.#stopRebuilt();
  }

  async leave(): Promise<void> {
    this.stop();
    await this.#beating;
    if (this.#revision === 0) return; // Nothing there is ours.
    try {
      await this.#options.list.delete(this.#options.key, this.#revision);
    } catch (error) {
      // The entry stays and is swept out by the others.
      this.#trouble(error);
    }
  }

  #begin(): void {
    this.#stopRebuilt = this.#options.list.onRebuilt(() => {
      this.#revision = 0;
      void this.beat();
    });
    this.#timer = setInterval(() => void this.#tick(), limits.heartbeatIntervalMs);
  }

  async #tick(): Promise<void> {
    await this.beat();
    await this.#options.list.sweep().catch(() => {}); // Somebody else's next tick does it.
  }

  async #beat(): Promise<void> {
    do {
      this.#again = false;
      const taken = await this.#write(this.#revision).catch((error: unknown) => this.#trouble(error));
      if (taken === undefined) continue;
      this.#revision = 0;
      this.stop();
      this.#options.onTaken?.(taken);
    } while (this.#again && !this.#stopped);
    this.#beating = undefined;
  }

  /** Writes over the entry of this revision; the error when another process holds it. */
  async #write(over: number): Promise<GuildstreamError | undefined> {
    const { list, key, entry } = this.#options;
    const own = entry();
    this.#ours.add(own.incarnation);
    const revision = await list.compareAndSet(key, own, over);
    if (revision !== undefined) {
      this.#revision = revision;
      return undefined;
    }
    const now = await list.get(key);
    const holder = now?.value as Partial<OwnEntry> | undefined;
    if (holder?.incarnation !== undefined && !this.#ours.has(holder.incarnation))
      return taken(own.id, holder);
    // An answer that was lost, or somebody swept our entry out while this process stood still: ours still.
    this.#revision = now?.revision ?? 0;
    this.#again = true;
    await new Promise((resolve) => setTimeout(resolve, limits.judgeRetryMinMs));
    return undefined;
  }

  #trouble(error: unknown): undefined {
    this.#options.log.warn(
      { event: "heartbeat_failed", error: messageOf(error) },
      "the list-server does not answer",
    );
  }

  /**
   * The entry of a dead process stays in the list; one that beats belongs to somebody. On the same host the pid
   * tells at once, elsewhere the silence that counts as death does.
   */
  async #refuseTakenId(): Promise<void> {
    const { list, key, entry } = this.#options;
    const own = entry();
    const holder = (await list.get(key).catch(() => undefined))?.value as Partial<OwnEntry> | undefined;
    if (holder === undefined || holder.incarnation === own.incarnation) return;
    if (holder.status === "offline-temporary") return;
    if (holder.host === own.host && typeof holder.pid === "number" && !isRunning(holder.pid)) return;
    const beats = list.beatsOf(key);
    const deadlineAt = performance.now() + limits.memberDeadMs;
    while (performance.now() < deadlineAt) {
      if (list.beatsOf(key) !== beats) throw taken(own.id, holder);
      await new Promise((resolve) => setTimeout(resolve, limits.judgeRetryMinMs));
    }
  }
}

function taken(id: string, holder: Partial<OwnEntry>): GuildstreamError {
  return new GuildstreamError("MEMBER_ID_TAKEN", `another process holds the id "${id}"`, {
    hint: `it runs on ${holder.host} with pid ${holder.pid}: give this one another --id, or stop that one`,
  });
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return pid !== process.pid;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
