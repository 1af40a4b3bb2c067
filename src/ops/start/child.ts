/**
 * Owns one role of the system as the supervisor sees it: spawned in its own process group, its log kept in a file,
 * started again when it dies. A worker may have a successor beside it (generations.ts), which goes on when it ends.
 *
 * Invariants:
 * - The child holds a channel to this process and drains when it closes, so it cannot outlive the supervisor.
 * - An end before the child was ever ready is final, and its own words are the error; afterwards it is started again
 *   with growing pauses, until it ends `limits.ops.crashesMax` times within `limits.ops.crashWindowMs`.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync, renameSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { type ErrorCode, GuildstreamError } from "../../core/errors.js";
import { limits } from "../../core/limits.js";
import { type End, type Generation, Generations, wordsOf } from "../generations.js";
import type { RoleMessage } from "../role-message.js";

export interface ChildSpec {
  name: string;
  args: readonly string[];
  env: Readonly<Record<string, string | undefined>>;
  logFile: string;
  /** A child whose end cannot be mended by another start: the simulator's ledger dies with it. */
  restarts: boolean;
  onSpawn: (pid: number) => void;
  /** A line for the person who watches. */
  onNote: (text: string) => void;
}

export class Child {
  readonly name: string;
  /** What the child said when it became ready the first time. */
  readonly ready: Promise<Extract<RoleMessage, { type: "ready" }>>;
  /** Rejects when the child is given up; never resolves. */
  readonly failed: Promise<never>;
  restarted = 0;
  readonly #spec: ChildSpec;
  readonly #generations: Generations;
  #becameReady!: (message: Extract<RoleMessage, { type: "ready" }>) => void;
  #fail!: (error: unknown) => void;
  #wasReady = false;
  #stopping = false;
  #deaths: number[] = [];

  constructor(spec: ChildSpec) {
    this.name = spec.name;
    this.#spec = spec;
    this.ready = new Promise((resolve) => {
      this.#becameReady = resolve;
    });
    this.failed = new Promise((_, reject) => {
      this.#fail = reject;
    });
    this.failed.catch(() => {}); // Raced by the supervisor for as long as it matters.
    if (existsSync(spec.logFile)) renameSync(spec.logFile, `${spec.logFile}.1`);
    this.#generations = new Generations({
      spawn: (args, env) => this.#spawn(args, env),
      onReady: (_, message) => {
        this.#wasReady = true;
        this.#becameReady(message);
      },
      onEnded: (generation, end, survivor) => {
        if (survivor === undefined) this.#onExit(wordsOf(end), generation);
        else this.#onSurvived(generation, end, survivor);
      },
    });
    this.#generations.start();
  }

  /** Of the one that serves, as far as one can tell from here. */
  get pid(): number | undefined {
    return (this.#generations.newestReady ?? this.#generations.living[0])?.pid;
  }

  /** Lets it drain; kills it when that takes longer than a drain may. */
  async stop(): Promise<void> {
    this.#stopping = true;
    const running = [...this.#generations.living];
    if (running.length === 0) return;
    this.#generations.stop("SIGTERM");
    const tooLong = new AbortController();
    const timer = delay(limits.ops.childStopTimeoutMs, undefined, { signal: tooLong.signal }).then(
      () => {
        this.#spec.onNote(`${this.name} did not finish in time; killed`);
        this.#generations.stop("SIGKILL");
      },
      () => {},
    );
    await Promise.all(running.map((generation) => generation.ended));
    tooLong.abort();
    await timer;
  }

  /** For leaving at once. */
  kill(): void {
    this.#stopping = true;
    this.#generations.stop("SIGKILL");
  }

  #spawn(more: readonly string[], moreEnv: Readonly<Record<string, string>>): ChildProcess {
    const { args, env, logFile, onSpawn } = this.#spec;
    const output = openSync(logFile, "a");
    const child = spawn(process.execPath, [...args, ...more], {
      // Its own process group: Ctrl-C reaches the supervisor alone, which drains in order.
      detached: true,
      env: { ...process.env, ...env, ...moreEnv },
      stdio: ["ignore", output, output, "ipc"],
    });
    closeSync(output);
    if (child.pid !== undefined) onSpawn(child.pid);
    return child;
  }

  #onSurvived(ended: Generation, end: End, survivor: Generation): void {
    if (this.#stopping) return;
    const isHandedOver = survivor.number > ended.number && end.code === 0;
    this.#spec.onNote(
      isHandedOver
        ? `${this.name} has handed over to new code (generation ${survivor.number})`
        : `${this.name}, generation ${ended.number}, ended (${wordsOf(end)}); generation ${survivor.number} goes on`,
    );
  }

  #onExit(how: string, last: Generation): void {
    if (this.#stopping) return;
    if (!this.#wasReady || !this.#spec.restarts) {
      this.#fail(this.#lastWords(last, `ended (${how})`));
      return;
    }
    const now = performance.now();
    this.#deaths = [...this.#deaths.filter((at) => now - at < limits.ops.crashWindowMs), now];
    if (this.#deaths.length >= limits.ops.crashesMax) {
      const often = `ended ${this.#deaths.length} times in ${limits.ops.crashWindowMs / 1_000} s, last by ${how}`;
      this.#fail(this.#lastWords(last, often));
      return;
    }
    const waitMs = Math.min(
      limits.ops.restartMinMs * 2 ** (this.#deaths.length - 1),
      limits.ops.restartMaxMs,
    );
    this.#spec.onNote(`${this.name} ended (${how}); starting it again`);
    setTimeout(() => {
      if (this.#stopping) return;
      this.restarted += 1;
      this.#generations.start();
    }, waitMs);
  }

  /** The child's own error when it told one, otherwise the end of its log. */
  #lastWords(last: Generation, what: string): GuildstreamError {
    const told = last.lastError;
    if (told !== undefined && told.code !== "BUG") {
      const hint = told.hint === undefined ? {} : { hint: told.hint };
      return new GuildstreamError(told.code as ErrorCode, `${this.name}: ${told.message}`, hint);
    }
    const lines = readFileSync(this.#spec.logFile, "utf8")
      .trimEnd()
      .split("\n")
      .slice(-limits.ops.logTailLines);
    return new GuildstreamError("ABORTED", `${this.name} ${what}\n${lines.join("\n")}`, {
      hint: `the lines above are the end of ${this.#spec.logFile}`,
    });
  }
}
