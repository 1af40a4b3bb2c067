/**
 * Owns the daily count of the identify budget: `identify.daily` in the list-server, one for all workers, counted down
 * by compare-and-set before an IDENTIFY leaves and reconciled with what Discord answers (core/identify.ts has the rules).
 *
 * Invariants:
 * - What is not counted does not leave; what is counted comes back only when it certainly never left.
 * - Discord is asked by the worker itself before it counts anything, and again once the reset is due.
 *
 * If the process dies after it counted: that count is lost until the reset. Called by identify.ts.
 */
import type { Logger } from "../core/bot.js";
import { messageOf } from "../core/errors.js";
import {
  giveBack,
  type IdentifyDailyEntry,
  identifyDailyEntry,
  reconcile,
  type SessionStartLimit,
  spend,
} from "../core/identify.js";
import { limits } from "../core/limits.js";
import { clusterKeys } from "../core/subjects.js";
import type { ClusterList } from "./list.js";

export interface DailyLimitOptions {
  list: ClusterList;
  /** This worker, for people who read the entry. */
  by: string;
  /** GET /gateway/bot. */
  ask: () => Promise<SessionStartLimit>;
  log: Logger;
}

interface Known {
  entry: IdentifyDailyEntry | undefined;
  revision: number;
}

export class DailyLimit {
  readonly #options: DailyLimitOptions;
  #known: Known = { entry: undefined, revision: 0 };
  #asked: { answer: SessionStartLimit; atMs: number } | undefined;
  #triedAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: DailyLimitOptions) {
    this.#options = options;
    this.refresh();
  }

  /**
   * What is left, asking Discord first when that is due.
   * @throws what Discord's REST client or the list-server's throw when nothing is known yet.
   */
  async current(): Promise<IdentifyDailyEntry> {
    if (this.#isAskDue()) await this.#ask();
    const { entry } = this.#known;
    if (entry === undefined) throw new Error(`${clusterKeys.identifyDaily} is gone from the list-server`);
    return entry;
  }

  /** The entry has changed in the list-server. */
  refresh(): void {
    const { list } = this.#options;
    const listed = list.identifyDaily();
    const entry = listed === undefined ? undefined : identifyDailyEntry.parse(listed);
    this.#known = { entry, revision: list.revisionOf(clusterKeys.identifyDaily) };
  }

  /** Until the reset by this process' clock; 0 once it is due. */
  get resetInMs(): number {
    if (this.#asked === undefined) return 0;
    return Math.max(0, this.#asked.atMs + this.#asked.answer.resetAfterMs - performance.now());
  }

  /** Counts one IDENTIFY; the generation to give it back with, or undefined when none may leave. */
  async spend(): Promise<number | undefined> {
    const spent = await this.#change((entry) => entry && spend(entry, this.#options.by, Date.now()));
    return spent?.generation;
  }

  /** Takes a count back whose IDENTIFY certainly never left. In doubt it stays counted. */
  async giveBack(generation: number): Promise<void> {
    try {
      await this.#change((entry) => entry && giveBack(entry, generation, this.#options.by, Date.now()));
    } catch (error) {
      const fields = { event: "identify_count_kept", error: messageOf(error) };
      this.#options.log.warn(fields, "the list-server does not answer: one IDENTIFY stays counted unused");
    }
  }

  #isAskDue(): boolean {
    const now = performance.now();
    if (this.#asked === undefined) return true;
    if (now - this.#triedAtMs < limits.identifyAskMinIntervalMs) return false;
    const { entry } = this.#known;
    if (entry === undefined || now - this.#asked.atMs >= limits.identifyAskIntervalMs) return true;
    // Another worker may have seen the reset already, then the entry is of the new day.
    const isOld = entry.resetAt <= this.#asked.answer.resetAt + limits.identifyResetToleranceMs;
    return this.resetInMs === 0 && isOld;
  }

  async #ask(): Promise<void> {
    this.#triedAtMs = performance.now();
    let answer: SessionStartLimit;
    try {
      answer = await this.#options.ask();
    } catch (error) {
      if (this.#asked === undefined) throw error;
      const fields = { event: "identify_limit_unknown", error: messageOf(error) };
      this.#options.log.warn(
        fields,
        "Discord does not say how many new sessions are left; counting on alone",
      );
      return;
    }
    this.#asked = { answer, atMs: performance.now() };
    await this.#change((entry) => reconcile(entry, answer, this.#options.by, Date.now()));
  }

  /**
   * Read, change, compare and set, again when another was first. `change` returns undefined to leave the entry and be
   * told so, or the entry itself when it is right as it is.
   */
  async #change(
    change: (entry: IdentifyDailyEntry | undefined) => IdentifyDailyEntry | undefined,
  ): Promise<IdentifyDailyEntry | undefined> {
    const { list } = this.#options;
    for (;;) {
      const { entry, revision } = this.#known;
      const next = change(entry);
      if (next === undefined || next === entry) return next;
      const written = await list.compareAndSet(clusterKeys.identifyDaily, next, revision);
      if (written !== undefined) {
        this.#known = { entry: next, revision: written };
        return next;
      }
      // Not from the list's picture, which hears of it later. An invalid entry counts as none, its revision still guards.
      const found = await list.get(clusterKeys.identifyDaily);
      const parsed = identifyDailyEntry.safeParse(found?.value);
      this.#known = { entry: parsed.success ? parsed.data : undefined, revision: found?.revision ?? 0 };
    }
  }
}
