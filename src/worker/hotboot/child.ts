/**
 * Owns a hotboot as the new process sees it: it finds its parent, opens its sockets, takes shards as they come, and in
 * the end the parent's place in the list (worker/handoff/handoff.md).
 *
 * Steps: core/handoff.ts, `ChildStep`.
 *
 * Invariants:
 * - It claims nothing, loads nothing and identifies nowhere before it has the parent's place: what it holds was given.
 * - It takes the place by the parent's word, or once the parent is silent: a compare-and-set on the parent's entry, so
 *   that a parent that is only slow keeps it.
 *
 * If this process dies: the parent takes back. If the parent dies: the place is taken here, shards that were not given
 * yet are claimed and RESUMEd from their checkpoints.
 */
import type { Logger } from "../../core/bot.js";
import { GuildstreamError, messageOf } from "../../core/errors.js";
import { type Answer, type Ask, type ChildStep, nextStep } from "../../core/handoff.js";
import { limits } from "../../core/limits.js";
import type { Life } from "../life.js";

/** The parent's entry as the list has it. */
export interface SeenParent {
  incarnation: string;
  revision: number;
  silentMs: number;
}

export interface ChildOptions {
  id: string;
  incarnation: string;
  life: Life;
  hello: Omit<Extract<Ask, { ask: "hello" }>, "ask" | "life" | "incarnation">;
  ask(to: string, question: Ask, timeoutMs: number): Promise<Answer>;
  parent(): SeenParent | undefined;
  /** Takes the parent's entry of this revision; false when it has beaten since. */
  succeed(revision: number): Promise<boolean>;
  onStep(step: ChildStep): void;
  log: Logger;
}

export class HotbootChild {
  readonly #options: ChildOptions;
  #step: ChildStep = "hailing";
  #parent: { life: string; incarnation: string } | undefined;
  #succeeding = false;
  #watch: NodeJS.Timeout | undefined;
  #end: { resolve(): void; reject(error: unknown): void } | undefined;

  constructor(options: ChildOptions) {
    this.#options = options;
    options.onStep("hailing");
  }

  /**
   * Resolves when this process has the parent's place and serves.
   * @throws GuildstreamError HOTBOOT_DISMISSED, HOTBOOT_FAILED
   */
  async run(): Promise<void> {
    const ended = new Promise<void>((resolve, reject) => {
      this.#end = { resolve, reject };
    });
    ended.catch(() => {}); // Awaited below, unless it fails before that.
    try {
      await this.#hail();
      this.#watch = setInterval(() => void this.#watchParent(), limits.heartbeatIntervalMs / 4);
      await ended;
    } finally {
      clearInterval(this.#watch);
    }
  }

  /** What the parent asks. */
  answer(question: Ask): Answer | Promise<Answer> {
    switch (question.ask) {
      case "place":
        return this.#place(question.revision);
      case "dismiss":
        return this.#dismissed(question.reason, question.wanted);
      default:
        return { ok: false, reason: `a successor does not answer "${question.ask}"` };
    }
  }

  /** This process is to stop: what it was given goes back. */
  async stop(): Promise<void> {
    await this.#dismissed("the successor was stopped", false);
  }

  /** Only the parent gives. */
  accepts(from: string): boolean {
    return from === this.#parent?.life && (this.#step === "opening" || this.#step === "taking");
  }

  async #hail(): Promise<void> {
    const { id, incarnation, life, hello, ask } = this.#options;
    const question: Ask = { ask: "hello", life: life.name, incarnation, ...hello };
    let answered: Answer;
    try {
      answered = await ask(id, question, limits.askTimeoutMs);
    } catch (cause) {
      throw new GuildstreamError("HOTBOOT_FAILED", `no worker "${id}" answers`, {
        cause,
        hint: "start it without --hotboot, or name the --id of the one that runs",
      });
    }
    const { ok, reason, parent } = answered;
    if (!ok || parent === undefined) {
      throw new GuildstreamError("HOTBOOT_FAILED", `the running worker refuses: ${reason}`);
    }
    this.#parent = parent;
    if (parent.shardCount !== life.shardCount) {
      throw new GuildstreamError(
        "HOTBOOT_FAILED",
        `the list says ${life.shardCount} shards, the parent ${parent.shardCount}`,
      );
    }
    this.#setStep("opening");
    await Promise.all(parent.shards.map(({ shard, resumeUrl }) => life.prepare(shard, resumeUrl)));
    if (this.#step !== "opening") return;
    this.#setStep("taking");
    await ask(parent.life, { ask: "ready", life: life.name }, limits.askTimeoutMs);
  }

  async #watchParent(): Promise<void> {
    const { parent, log } = this.#options;
    const seen = parent();
    // While the place is being taken the list says one thing and this object another.
    if (this.#succeeding || (this.#step !== "opening" && this.#step !== "taking")) return;
    if (seen !== undefined && seen.incarnation === this.#parent!.incarnation) {
      if (seen.silentMs < limits.hotbootParentSilentMs) return;
      log.error(
        { event: "hotboot_parent_silent", silentMs: seen.silentMs },
        "the parent is silent; taking its place",
      );
      await this.#succeed(seen.revision).catch((error: unknown) => {
        log.warn(
          { event: "hotboot_not_succeeded", error: messageOf(error) },
          "its place was not to be had yet",
        );
      });
    } else {
      await this.#dismissed("the parent is not in the list any more", false);
    }
  }

  async #place(revision: number): Promise<Answer> {
    if (this.#step === "serving") return { ok: true }; // Asked again: the answer was lost.
    if (this.#succeeding) return { ok: false, reason: "it is doing so" };
    return (await this.#succeed(revision)) ? { ok: true } : { ok: false, reason: "the entry has changed" };
  }

  async #succeed(revision: number): Promise<boolean> {
    const { succeed, life } = this.#options;
    this.#succeeding = true;
    try {
      if (!(await succeed(revision))) return false;
      this.#setStep("succeeding");
    } finally {
      this.#succeeding = false;
    }
    life.cancelReceiving("the parent is gone");
    life.serve();
    this.#setStep("serving");
    this.#end?.resolve();
    return true;
  }

  /** Hands back what was given, as far as the parent takes it. */
  async #dismissed(reason: string, wanted: boolean): Promise<Answer> {
    const { life, log } = this.#options;
    if (this.#step === "serving" || this.#step === "dismissed") return { ok: false, reason: this.#step };
    this.#setStep("dismissed");
    life.cancelReceiving(reason);
    for (const shard of life.shards) {
      const kept = this.#parent === undefined ? "no parent" : await life.handOff(shard, this.#parent.life);
      if (kept !== undefined)
        log.warn({ event: "not_handed_back", shard, reason: kept }, "left to be claimed");
    }
    const hint = "the running worker goes on as before; its log says more";
    this.#end?.reject(
      wanted
        ? new GuildstreamError("HOTBOOT_DISMISSED", reason)
        : new GuildstreamError("HOTBOOT_FAILED", `nothing was taken over: ${reason}`, { hint }),
    );
    return { ok: true };
  }

  #setStep(step: ChildStep): void {
    this.#step = nextStep("child", this.#step, step);
    this.#options.onStep(step);
  }
}
