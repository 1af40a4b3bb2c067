/**
 * Owns a hotboot as the running worker drives it: a child process running new code takes over shard by shard, and in
 * the end this worker's place in the list (worker/handoff/handoff.md).
 *
 * Steps: core/handoff.ts, `ParentStep`.
 *
 * Invariants:
 * - Nothing can make it worse than not deploying: whatever fails, at whatever step, ends "staying", with every shard back
 *   here and the operator told why.
 * - A child of another bot, or of an older state version, is refused before anything moves.
 * - While it lasts the claims stand still: what goes where is decided here.
 *
 * If this process dies: the child notices the silence, takes the place in the list and RESUMEs the rest from their
 * checkpoints. If the child dies: its shards are claimed back and RESUMEd here, the guilds come from the log.
 */
import type { Logger } from "../../core/bot.js";
import { GuildstreamError, messageOf } from "../../core/errors.js";
import { type Answer, type Ask, nextStep, type ParentStep } from "../../core/handoff.js";
import { limits } from "../../core/limits.js";
import type { HotbootProgress } from "../../core/members.js";
import type { Life } from "../life.js";
import { Pauses } from "./pauses.js";

export type Hello = Extract<Ask, { ask: "hello" }>;

/** The child's process, where this one has asked for it. */
export interface Successor {
  pid: number;
  ended: Promise<{ code: number | null; signal: string | null }>;
}

export interface ParentOptions {
  life: Life;
  incarnation: string;
  bot: { name: string; stateVersion: number };
  dryRun: boolean;
  /** Which hotboot of this process it is, from 1. */
  attempt: number;
  /** Starts the child; undefined when the platform has started it, and its hello is here. */
  spawn: (() => Promise<Successor>) | undefined;
  ask(to: string, question: Ask, timeoutMs: number): Promise<Answer>;
  /** Our entry has changed: the successor counts as this worker from here on (undefined: no more). */
  announce(successor: string | undefined): Promise<void>;
  /** Ends our heartbeats; the revision of our entry. */
  cedePlace(): Promise<number>;
  /** Whether the list says that this incarnation has our place. */
  isPlaced(incarnation: string): boolean;
  /** Takes our place again. */
  keepPlace(): Promise<void>;
  onStep(step: ParentStep): void;
  log: Logger;
}

export class HotbootParent {
  readonly #options: ParentOptions;
  readonly #pauses = new Pauses();
  readonly #beganAt = performance.now();
  #step: ParentStep = "spawning";
  #child: Hello | undefined;
  /** The child's process while it runs, where we have asked for it. */
  #process: Successor | undefined;
  #isReady = false;
  #failure: string | undefined;
  #wake: () => void = () => {};
  #shardsTotal = 0;
  #shardsMoved = 0;
  #guildsTotal = 0;
  #handingAt: number | undefined;
  #guildsMoved = 0;

  constructor(options: ParentOptions) {
    this.#options = options;
    options.onStep("spawning");
  }

  get progress(): HotbootProgress {
    return {
      attempt: this.#options.attempt,
      step: this.#step,
      dryRun: this.#options.dryRun,
      to: this.#child?.life ?? "",
      shardsMoved: this.#shardsMoved,
      shardsTotal: this.#shardsTotal,
      guildsMoved: this.#guildsMoved,
      guildsTotal: Math.max(this.#guildsTotal, this.#guildsMoved),
      ...this.#pauses.summary(),
      elapsedMs: Math.round(performance.now() - this.#beganAt),
      handingMs: this.#handingAt === undefined ? 0 : Math.round(performance.now() - this.#handingAt),
      ...(this.#failure !== undefined && { reason: this.#failure }),
    };
  }

  /**
   * Resolves when the child has taken over everything and nothing is left here.
   * @throws GuildstreamError HOTBOOT_FAILED when everything is here as before; HOTBOOT_DISMISSED after a dry run.
   */
  async run(): Promise<void> {
    const { life, log, dryRun } = this.#options;
    await life.holdClaims();
    try {
      await this.#spawn();
      this.#setStep("greeting");
      await this.#until("the child is ready", limits.hotbootReadyTimeoutMs, () => this.#isReady);
      if (dryRun) throw new GuildstreamError("HOTBOOT_DISMISSED", "the new code is ready; it was only a try");
      this.#setStep("handing");
      this.#guildsTotal = life.guilds;
      this.#handingAt = performance.now();
      await this.#giveShards();
      this.#setStep("placing");
      await this.#givePlace();
      this.#setStep("gone");
      log.info({ event: "hotboot_done", ...this.progress }, "the new code has taken over");
    } catch (error) {
      await this.#stay(error);
    }
  }

  /** Gives up, whatever the step. */
  cancel(reason: string): void {
    this.#failure ??= reason;
    this.#options.life.cancelGiving(reason);
    this.#wake();
  }

  /** The child's own hello, whoever started it. */
  greet(hello: Hello): Answer {
    const { life, incarnation, bot } = this.#options;
    const refused = this.#refusal(hello);
    if (refused !== undefined) {
      if (this.#child === undefined) this.cancel(`the new code was refused: ${refused}`);
      return { ok: false, reason: refused };
    }
    this.#child = hello;
    this.#shardsTotal = life.shards.length;
    this.#wake();
    this.#options.log.info(
      { event: "hotboot_hello", ...hello, stateVersionHere: bot.stateVersion },
      "the successor has said hello",
    );
    return {
      ok: true,
      parent: { life: life.name, incarnation, shardCount: life.shardCount, shards: life.resumeUrls },
    };
  }

  /** The child's sockets are open. */
  ready(childLife: string): Answer {
    if (childLife !== this.#child?.life) return { ok: false, reason: "not the child that said hello" };
    this.#isReady = true;
    this.#wake();
    return { ok: true };
  }

  guildMoved(): void {
    this.#guildsMoved += 1;
  }

  paused(pausesMs: readonly number[]): void {
    this.#pauses.add(pausesMs);
  }

  #refusal({ bot, stateVersion }: Hello): string | undefined {
    const own = this.#options.bot;
    if (this.#child !== undefined) return "another child has said hello";
    if (this.#step !== "spawning") return `this hotboot is at "${this.#step}"`;
    if (bot !== own.name) return `it runs the bot "${bot}", not "${own.name}"`;
    if (stateVersion < own.stateVersion) {
      return `its bot has state version ${stateVersion}, older than ${own.stateVersion}`;
    }
    return undefined;
  }

  async #spawn(): Promise<void> {
    const { spawn } = this.#options;
    if (spawn !== undefined) {
      const successor = await spawn();
      this.#process = successor;
      void successor.ended.then(({ code, signal }) => {
        this.#process = undefined;
        if (this.#step !== "gone")
          this.cancel(`the child ended ${signal === null ? `with ${code}` : `by ${signal}`}`);
      });
    }
    await this.#until("the child says hello", limits.hotbootSpawnTimeoutMs, () => this.#child !== undefined);
    await this.#options.announce(this.#child!.incarnation);
  }

  async #giveShards(): Promise<void> {
    const { life } = this.#options;
    for (const shard of life.shards) {
      let reason: string | undefined;
      for (let attempt = 1; attempt <= limits.handoffAttemptsMax; attempt += 1) {
        this.#throwIfFailed();
        reason = await life.handOff(shard, this.#child!.life);
        if (reason === undefined) break;
        await new Promise((resolve) => setTimeout(resolve, limits.handoffRetryMs));
      }
      if (reason !== undefined) throw new Error(`shard ${shard} was not handed over: ${reason}`);
      this.#shardsMoved += 1;
    }
  }

  async #givePlace(): Promise<void> {
    const { cedePlace, keepPlace, isPlaced } = this.#options;
    const revision = await cedePlace();
    const { incarnation } = this.#child!;
    const deadlineAt = performance.now() + limits.hotbootPlaceTimeoutMs;
    let isAsking = false;
    let reason = "the child did not take the place in the list";
    // Its answer may be lost with a server; the list tells as well.
    while (!isPlaced(incarnation)) {
      if (performance.now() > deadlineAt) {
        // It may take the place yet: then ours is refused, and this process ends by that.
        await keepPlace();
        throw new Error(reason);
      }
      if (!isAsking) {
        isAsking = true;
        void this.#askToPlace(revision).then((refused) => {
          reason = refused ?? reason;
          isAsking = false;
        });
      }
      await new Promise((resolve) => setTimeout(resolve, limits.handoffTurnMs));
    }
  }

  async #askToPlace(revision: number): Promise<string | undefined> {
    try {
      const question: Ask = { ask: "place", revision };
      const { ok, reason } = await this.#options.ask(this.#child!.life, question, limits.askTimeoutMs);
      return ok ? undefined : reason;
    } catch (error) {
      return messageOf(error);
    }
  }

  /** Everything comes back, and the operator is told. */
  async #stay(error: unknown): Promise<never> {
    const { life, log, ask, announce } = this.#options;
    const wanted = error instanceof GuildstreamError && error.code === "HOTBOOT_DISMISSED";
    const reason = this.#failure ?? messageOf(error);
    this.#failure = reason;
    this.#setStep("staying");
    if (this.#child !== undefined) {
      // It hands back what it has; what it does not is claimed below, as after its death.
      const dismissal: Ask = { ask: "dismiss", reason, wanted };
      await ask(this.#child.life, dismissal, limits.handOverTimeoutMs).catch(() => {});
    }
    // One that hangs would be in the way of every later one.
    setTimeout(
      () => this.#process !== undefined && endProcess(this.#process.pid),
      limits.hotbootEndTimeoutMs,
    ).unref();
    await announce(undefined);
    life.resumeClaims();
    const fields = { event: "hotboot_stayed", ...this.progress, reason };
    if (wanted) {
      log.info(fields, "the new code booted to ready; nothing was handed over");
      throw error;
    }
    log.error(fields, "not deployed: going on as before");
    throw new GuildstreamError("HOTBOOT_FAILED", `not deployed, going on as before: ${reason}`, {
      cause: error,
    });
  }

  async #until(what: string, timeoutMs: number, holds: () => boolean): Promise<void> {
    const timer = setTimeout(() => this.cancel(`waited ${timeoutMs} ms in vain until ${what}`), timeoutMs);
    try {
      while (!holds()) {
        this.#throwIfFailed();
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    } finally {
      clearTimeout(timer);
    }
  }

  #throwIfFailed(): void {
    if (this.#failure !== undefined) throw new Error(this.#failure);
  }

  #setStep(step: ParentStep): void {
    this.#step = nextStep("parent", this.#step, step);
    this.#options.onStep(step);
  }
}

function endProcess(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has ended just now.
  }
}
