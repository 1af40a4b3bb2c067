/**
 * Owns one process of the system as the supervisor sees it: spawned in its own process group, its log kept in a file,
 * started again when it dies.
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
import type { RoleMessage } from "./role-message.js";

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
  #process: ChildProcess | undefined;
  #exited: Promise<void> = Promise.resolve();
  #becameReady!: (message: Extract<RoleMessage, { type: "ready" }>) => void;
  #fail!: (error: unknown) => void;
  #wasReady = false;
  #stopping = false;
  #deaths: number[] = [];
  #error: Extract<RoleMessage, { type: "error" }> | undefined;

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
    this.#spawn();
  }

  get pid(): number | undefined {
    return this.#process?.pid;
  }

  get isRunning(): boolean {
    return this.#process !== undefined;
  }

  /** Lets it drain; kills it when that takes longer than a drain may. */
  async stop(): Promise<void> {
    this.#stopping = true;
    const running = this.#process;
    if (running === undefined) return;
    running.kill("SIGTERM");
    const tooLong = new AbortController();
    const timer = delay(limits.ops.childStopTimeoutMs, undefined, { signal: tooLong.signal }).then(
      () => {
        this.#spec.onNote(`${this.name} did not finish in time; killed`);
        running.kill("SIGKILL");
      },
      () => {},
    );
    await this.#exited;
    tooLong.abort();
    await timer;
  }

  /** For leaving at once. */
  kill(): void {
    this.#stopping = true;
    this.#process?.kill("SIGKILL");
  }

  #spawn(): void {
    const { args, env, logFile, onSpawn } = this.#spec;
    const output = openSync(logFile, "a");
    const child = spawn(process.execPath, args, {
      // Its own process group: Ctrl-C reaches the supervisor alone, which drains in order.
      detached: true,
      env: { ...process.env, ...env, GUILDSTREAM_SUPERVISED: "1" },
      stdio: ["ignore", output, output, "ipc"],
    });
    closeSync(output);
    this.#process = child;
    this.#error = undefined;
    if (child.pid !== undefined) onSpawn(child.pid);
    child.on("message", (message) => this.#onMessage(message as RoleMessage));
    this.#exited = new Promise((resolve) => {
      const ended = (how: string): void => {
        if (this.#process !== child) return;
        this.#process = undefined;
        resolve();
        this.#onExit(how);
      };
      child.once("exit", (code, signal) => ended(signal ?? `exit code ${code}`));
      child.once("error", (error) => ended(error.message));
    });
  }

  #onMessage(message: RoleMessage): void {
    if (message.type === "error") this.#error = message;
    else {
      this.#wasReady = true;
      this.#becameReady(message);
    }
  }

  #onExit(how: string): void {
    if (this.#stopping) return;
    if (!this.#wasReady || !this.#spec.restarts) {
      this.#fail(this.#lastWords(`ended (${how})`));
      return;
    }
    const now = performance.now();
    this.#deaths = [...this.#deaths.filter((at) => now - at < limits.ops.crashWindowMs), now];
    if (this.#deaths.length >= limits.ops.crashesMax) {
      const often = `ended ${this.#deaths.length} times in ${limits.ops.crashWindowMs / 1_000} s, last by ${how}`;
      this.#fail(this.#lastWords(often));
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
      this.#spawn();
    }, waitMs);
  }

  /** The child's own error when it told one, otherwise the end of its log. */
  #lastWords(what: string): GuildstreamError {
    const told = this.#error;
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
