/** Owns a launcher in a test, with a role that keeps a journal. Nothing of it is left when the test ends. */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { ExecutionContext } from "ava";
import { until } from "../helpers/cluster.js";
import { tempDir } from "../helpers/nats.js";
import type { Plan } from "./fake-role.js";

const here = (file: string): string => fileURLToPath(new URL(file, import.meta.url));
export const launchRolePath = here("./launch-role.js");
export const fakeRolePath = here("./fake-role.js");
export const hotbootRolePath = here("./hotboot-role.js");

export interface Entry {
  generation: number;
  pid: number;
  event: string;
  [more: string]: unknown;
}

export class Launched {
  stderr = "";
  /** Exit code and signal of the launcher. */
  readonly ended: Promise<[code: number | null, signal: string | null]>;

  constructor(
    readonly process: ChildProcess,
    readonly journalPath: string,
  ) {
    process.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.stderr += text;
    });
    this.ended = new Promise((resolve) => process.once("exit", (...how) => resolve(how)));
  }

  get journal(): Entry[] {
    let text = "";
    try {
      text = readFileSync(this.journalPath, "utf8");
    } catch {} // Nobody has written yet.
    const whole = text.slice(0, text.lastIndexOf("\n") + 1).trimEnd();
    return whole === "" ? [] : whole.split("\n").map((line) => JSON.parse(line) as Entry);
  }

  /** What one generation has noted of one kind. */
  noted(generation: number, event: string): Entry[] {
    return this.journal.filter((entry) => entry.generation === generation && entry.event === event);
  }

  /** Waits for the first such entry. */
  async comes(generation: number, event: string, count = 1): Promise<Entry> {
    await until(
      `generation ${generation}: ${event}`,
      () => this.noted(generation, event).length >= count,
      30_000,
    );
    return this.noted(generation, event)[count - 1]!;
  }

  /** The messages it was told, without what the test cannot know. */
  told(generation: number): object[] {
    return this.noted(generation, "told").map((entry) => entry.message as object);
  }

  async said(text: RegExp): Promise<void> {
    await until(`it says ${text}`, () => text.test(this.stderr), 30_000);
  }

  kill(signal: NodeJS.Signals): void {
    this.process.kill(signal);
  }

  /**
   * Asks for a hotboot until this generation has heard it: that a role has said it is ready is not yet that the
   * launcher knows.
   */
  async askForHotboot(generation: number): Promise<void> {
    const tooEarly = (): number => this.stderr.match(/SIGUSR2: the worker is not ready yet/g)?.length ?? 0;
    const asked = (): number => this.noted(generation, "asked").length;
    const before = asked();
    while (asked() === before) {
      const early = tooEarly();
      this.kill("SIGUSR2");
      await until("the hotboot is heard or refused", () => asked() > before || tooEarly() > early);
    }
  }

  async allGone(): Promise<void> {
    const pids = new Set(this.journal.map((entry) => entry.pid));
    await until("every generation is gone", () => ![...pids].some(isRunning), 30_000);
  }
}

export interface LaunchOptions {
  plans?: Record<number, Plan>;
  script?: string;
  args?: string[];
  cwd?: string;
  env?: Record<string, string>;
  /** Around the launcher's own command line, as `script` for a terminal. */
  wrap?: (command: string[]) => string[];
}

export async function launchRole(t: ExecutionContext, options: LaunchOptions = {}): Promise<Launched> {
  const journal = join(await tempDir(t), "journal");
  const own = [process.execPath, launchRolePath, options.script ?? fakeRolePath, ...(options.args ?? [])];
  const [program, ...args] = options.wrap?.(own) ?? own;
  const plans = JSON.stringify(options.plans ?? {});
  const env = { ...process.env, ...options.env, FAKE_JOURNAL: journal, FAKE_PLAN: plans };
  const child = spawn(program!, args, {
    env,
    stdio: ["pipe", "pipe", "pipe"],
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  child.stdin.on("error", () => {});
  child.stdout.resume();
  const launched = new Launched(child, journal);
  t.teardown(async () => {
    if (!t.passed) t.log(launched.stderr, launched.journal);
    child.kill("SIGKILL");
    await launched.ended;
    for (const pid of new Set(launched.journal.map((entry) => entry.pid))) {
      if (isRunning(pid)) process.kill(pid, "SIGKILL");
    }
  });
  return launched;
}

/** A zombie has ended. */
export function isRunning(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2)[0] !== "Z";
  } catch {
    return false;
  }
}
