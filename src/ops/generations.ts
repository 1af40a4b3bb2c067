/**
 * Owns the generations of one role, as the process sees them that stays while they change: the launcher
 * (cli/launcher.ts), or `guildstream start` (start/child.ts).
 *
 * A generation is one process with a channel to here. It may ask for its successor: the same command from disk again,
 * so new code, beside it. Which of the two serves is their own affair (the handoff); here is only known who lives.
 *
 * Invariants:
 * - At most two live. A request while two do, or once the role is to stop, is refused by name.
 * - The older hears all that befalls the newer: spawned, ready, ended.
 * - The role ends when its last generation does, whichever that is. Nothing is started again here.
 * If this process dies the channels close, and every generation drains by itself (cli/lifetime.ts).
 */
import type { ChildProcess } from "node:child_process";
import { messageOf } from "../core/errors.js";
import { parseRoleMessage, type Refusal, type RoleMessage, type SupervisorMessage } from "./role-message.js";

export interface End {
  code: number | null;
  signal: NodeJS.Signals | null;
  /** Set when it could not be started at all. */
  error?: Error;
}

export class Generation {
  isReady = false;
  /** What it said of its own failure. */
  lastError: Extract<RoleMessage, { type: "error" }> | undefined;
  /** Resolves when its process is gone and all it said has been heard. */
  readonly ended: Promise<End>;

  constructor(
    readonly number: number,
    readonly process: ChildProcess,
  ) {
    this.ended = new Promise((resolve) => {
      process.once("close", (code, signal) => resolve({ code, signal }));
      process.on("error", (error) => {
        // With an id this is a signal or a message that did not arrive: its end will tell.
        if (process.pid === undefined) resolve({ code: null, signal: null, error });
      });
    });
  }

  get pid(): number | undefined {
    return this.process.pid;
  }

  tell(message: SupervisorMessage): void {
    this.process.send(message, undefined, undefined, () => {}); // It may be gone by now; its end is told by itself.
  }
}

export interface GenerationsOptions {
  /**
   * Spawns the role's command with these arguments after its own and these variables in its environment: with a
   * channel, and in a process group of its own, so that what the terminal sends reaches this process alone.
   */
  spawn(args: readonly string[], env: Readonly<Record<string, string>>): ChildProcess;
  onReady(generation: Generation, message: Extract<RoleMessage, { type: "ready" }>): void;
  /** `survivor`: the other one, which now goes on alone. */
  onEnded(generation: Generation, end: End, survivor: Generation | undefined): void;
}

export class Generations {
  readonly #options: GenerationsOptions;
  /** Oldest first. */
  #living: Generation[] = [];
  #count = 0;
  #isStopping = false;

  constructor(options: GenerationsOptions) {
    this.#options = options;
  }

  get living(): readonly Generation[] {
    return this.#living;
  }

  get newestReady(): Generation | undefined {
    return this.#living.findLast((generation) => generation.isReady);
  }

  /** Starts one without a predecessor. Throws what spawn throws. */
  start(): void {
    this.#spawn([]);
  }

  /** Passes the signal on to all; from here on there are no successors. */
  stop(signal: NodeJS.Signals): void {
    this.#isStopping = true;
    for (const generation of this.#living) generation.process.kill(signal);
  }

  #spawn(args: readonly string[]): Generation {
    const number = this.#count + 1;
    const env = { GUILDSTREAM_SUPERVISED: "1", GUILDSTREAM_GENERATION: String(number) };
    const generation = new Generation(number, this.#options.spawn(args, env));
    this.#count = number;
    this.#living.push(generation);
    generation.process.on("message", (message) => this.#onMessage(generation, parseRoleMessage(message)));
    void generation.ended.then((end) => this.#onEnded(generation, end));
    return generation;
  }

  #onMessage(from: Generation, message: RoleMessage | undefined): void {
    switch (message?.type) {
      case "ready":
        from.isReady = true;
        this.#olderThan(from)?.tell({ type: "nextReady", generation: from.number });
        this.#options.onReady(from, message);
        break;
      case "error":
        from.lastError = message;
        break;
      case "spawnNext":
        this.#onSpawnNext(from, message.id);
        break;
      case undefined: // Said in words of a newer version.
        break;
    }
  }

  #onSpawnNext(asking: Generation, id: string): void {
    const refusal = this.#refusalFor(asking);
    if (refusal !== undefined) {
      asking.tell({ type: "nextRefused", ...refusal });
      return;
    }
    try {
      const next = this.#spawn(["--hotboot", id]);
      // Without a process id its end tells why.
      if (next.pid === undefined) return;
      asking.tell({ type: "nextSpawned", generation: next.number, pid: next.pid });
    } catch (error) {
      // Not enough memory, say. The running one must not suffer for it.
      asking.tell({ type: "nextRefused", reason: "SPAWN_FAILED", message: messageOf(error) });
    }
  }

  #refusalFor(asking: Generation): { reason: Refusal; message: string } | undefined {
    if (this.#isStopping) return { reason: "STOPPING", message: "it is being stopped" };
    const other = this.#living.find((generation) => generation !== asking);
    if (other === undefined) return undefined;
    const who = `generation ${other.number} (process ${other.pid})`;
    return other.number > asking.number
      ? { reason: "NEXT_ALIVE", message: `its successor is there already: ${who}` }
      : { reason: "PREVIOUS_ALIVE", message: `its predecessor is still there: ${who}` };
  }

  #onEnded(generation: Generation, end: End): void {
    const older = this.#olderThan(generation);
    this.#living = this.#living.filter((other) => other !== generation);
    if (end.error !== undefined) {
      older?.tell({ type: "nextRefused", reason: "SPAWN_FAILED", message: end.error.message });
    } else {
      const { code, signal } = end;
      older?.tell({ type: "nextEnded", generation: generation.number, code, signal });
    }
    this.#options.onEnded(generation, end, this.#living[0]);
  }

  #olderThan(generation: Generation): Generation | undefined {
    return this.#living.find((other) => other.number < generation.number);
  }
}

/** How it ended, for people. */
export function wordsOf(end: End): string {
  return end.error?.message ?? end.signal ?? `exit code ${end.code}`;
}
