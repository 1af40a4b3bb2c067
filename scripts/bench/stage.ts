/**
 * Owns what a bench runs on: a temporary folder, a real nats-server on a free port, roles as processes of their own.
 * Everything is gone when the bench ends, however it ends; the processes also end by themselves when this one dies,
 * because each holds a channel to it (see src/cli/lifetime.ts).
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { pino } from "pino";
import { ClusterList } from "../../src/cluster/list.js";
import { dbnodeSubjects } from "../../src/core/subjects.js";
import { connectNats, type NatsConnection } from "../../src/nats/connect.js";
import { ensureStreams, packageRoot } from "../../src/nats/definitions.js";
import { type EmbeddedServer, startEmbeddedServer } from "../../src/nats/embedded.js";
import { cpuMicros, rssBytes } from "../../src/ops/processes.js";
import type { RoleMessage } from "../../src/ops/role-message.js";
import { SimulatorClient } from "../../src/ops/start/simulator-client.js";

export interface BenchContext {
  quick: boolean;
  /** A line of progress, to stderr. */
  log: (text: string) => void;
}

export const silent = pino({ level: "silent" });
const token = "simulator-token";
const bootTimeoutMs = 120_000;
const outputKeptLength = 4_000;

/** A process of the bench: what it costs, by its id. */
export class BenchProcess {
  readonly ready: Promise<string>;
  readonly #child: ChildProcess;
  readonly #exited: Promise<void>;
  #output = "";

  constructor(
    readonly name: string,
    args: readonly string[],
    env: Record<string, string>,
  ) {
    const child = spawn(process.execPath, args, {
      // The environment's own settings must not reach in: every run is on the same terms.
      env: {
        PATH: process.env.PATH ?? "",
        HOME: process.env.HOME ?? "",
        ...env,
        GUILDSTREAM_SUPERVISED: "1",
      },
      stdio: ["ignore", "pipe", "pipe", "ipc"],
      detached: true,
    });
    this.#child = child;
    const keep = (chunk: Buffer): void => {
      this.#output = (this.#output + chunk.toString("utf8")).slice(-outputKeptLength);
    };
    child.stdout?.on("data", keep);
    child.stderr?.on("data", keep);
    this.#exited = new Promise((resolve) => {
      child.once("exit", () => resolve());
      child.once("error", () => resolve());
    });
    this.ready = new Promise((resolve, reject) => {
      child.on("message", (message: RoleMessage) => {
        if (message.type === "ready") resolve(message.url ?? "");
        else if (message.type === "error") reject(new Error(`${name}: ${message.message}`));
      });
      void this.#exited.then(() => reject(new Error(`${name} ended early\n${this.#output}`)));
      const timer = setTimeout(
        () => reject(new Error(`${name} was not ready in ${bootTimeoutMs} ms\n${this.#output}`)),
        bootTimeoutMs,
      );
      timer.unref();
    });
    this.ready.catch(() => {}); // Whoever waits for it hears it.
  }

  get pid(): number {
    return this.#child.pid!;
  }

  cpuMicros(): Promise<number> {
    return cpuMicros(this.pid).then((micros) => {
      if (micros === undefined)
        throw new Error(`no CPU time of ${this.name} (needs Linux' /proc)\n${this.#output}`);
      return micros;
    });
  }

  async rssBytes(): Promise<number> {
    return (await rssBytes(this.pid)) ?? 0;
  }

  /** Nothing of a bench is worth a drain. */
  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#exited;
  }
}

export class Stage {
  readonly processes: BenchProcess[] = [];
  readonly #connections: NatsConnection[] = [];
  readonly #launchers: ChildProcess[] = [];
  #list: ClusterList | undefined;

  constructor(
    readonly folder: string,
    readonly server: EmbeddedServer,
  ) {}

  async connect(name: string): Promise<NatsConnection> {
    const nc = await connectNats({ url: this.server.url, name });
    this.#connections.push(nc);
    return nc;
  }

  async list(): Promise<ClusterList> {
    this.#list ??= await ClusterList.open(await this.connect("bench list"), silent);
    return this.#list;
  }

  spawn(name: string, args: readonly string[], env: Record<string, string> = {}): BenchProcess {
    const child = new BenchProcess(name, args, { NATS_URL: this.server.url, DISCORD_TOKEN: token, ...env });
    this.processes.push(child);
    return child;
  }

  role(name: string, args: readonly string[], env: Record<string, string> = {}): BenchProcess {
    const cli = join(packageRoot(), "build", "src", "cli.js");
    return this.spawn(name, [cli, ...args, "--log-level", "warn", "--json"], env);
  }

  async dbnodes(count = 2): Promise<BenchProcess[]> {
    const nodes = Array.from({ length: count }, (_, n) => {
      const id = `db-${n + 1}`;
      return this.role(id, ["dbnode", "--id", id, "--data", join(this.folder, id)]);
    });
    await Promise.all(nodes.map((node) => node.ready));
    return nodes;
  }

  /** The simulated Discord, its traffic paused. */
  async simulator(guilds: number, shards: number, seed: number): Promise<SimulatorClient> {
    const flags = { guilds, shards, seed, port: 0, "max-concurrency": 16 };
    const args = Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, String(value)]);
    const simulator = this.role("simulator", ["simulator", "--paused", ...args]);
    return new SimulatorClient(await simulator.ready);
  }

  worker(bot: string, simulator: SimulatorClient, shards: number, id = "worker-1"): BenchProcess {
    const args = ["worker", "--id", id, "--bot", bot, "--shards", String(shards), "--data", this.folder];
    return this.role(id, args, { DISCORD_API: simulator.apiUrl });
  }

  /** A worker below its launcher, as users start it; the launcher drains it when this stage closes. */
  launcher(bot: string, simulator: SimulatorClient, shards: number): ChildProcess {
    const cli = join(packageRoot(), "build", "src", "cli.js");
    const args = [
      "worker",
      "--id",
      "worker-1",
      "--bot",
      bot,
      "--shards",
      String(shards),
      "--data",
      this.folder,
    ];
    const launcher = spawn(process.execPath, [cli, ...args, "--log-level", "error", "--json"], {
      env: {
        PATH: process.env.PATH ?? "",
        HOME: process.env.HOME ?? "",
        NATS_URL: this.server.url,
        DISCORD_TOKEN: token,
        DISCORD_API: simulator.apiUrl,
      },
      stdio: ["ignore", "ignore", "inherit"],
    });
    this.#launchers.push(launcher);
    return launcher;
  }

  bareConsumer(simulator: SimulatorClient, shards: number): BenchProcess {
    const script = join(packageRoot(), "build", "scripts", "bench", "bare-consumer.js");
    return this.spawn("bare consumer", [script, String(shards)], { DISCORD_API: simulator.apiUrl });
  }

  async close(): Promise<void> {
    this.#list?.stop();
    await Promise.all(this.#launchers.map(ended));
    await Promise.all(this.processes.map((child) => child.kill()));
    await Promise.all(this.#connections.map((nc) => nc.close().catch(() => {})));
    await this.server.stop();
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** Asks twice: leave at once. */
async function ended(launcher: ChildProcess): Promise<void> {
  if (launcher.exitCode !== null || launcher.signalCode !== null) return;
  const exited = new Promise((resolve) => launcher.once("exit", resolve));
  launcher.kill("SIGTERM");
  await Promise.race([exited, delay(10_000)]);
  launcher.kill("SIGTERM");
  await exited;
}

const open = new Set<Stage>();

/** Takes down whatever runs: for a bench that is interrupted. */
export async function closeStages(): Promise<void> {
  await Promise.all([...open].map((stage) => stage.close().catch(() => {})));
}

export async function withStage<T>(body: (stage: Stage) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), "guildstream-bench-"));
  let stage: Stage | undefined;
  try {
    stage = new Stage(folder, await startEmbeddedServer({ dataDir: join(folder, "nats") }));
    open.add(stage);
    await ensureStreams(await stage.connect("bench setup"));
    return await body(stage);
  } finally {
    if (stage !== undefined) open.delete(stage);
    await (stage?.close() ?? rm(folder, { recursive: true, force: true }));
  }
}

/** What each node has said it saved, with the time it was heard. */
export class SavedWatch {
  readonly heard: { id: string; saved: number; at: number }[] = [];
  readonly #saved = new Map<string, number>();

  constructor(
    nc: NatsConnection,
    readonly nodes: number,
    onSaved: (lowest: number) => void = () => {},
  ) {
    nc.subscribe(dbnodeSubjects.allSaved, {
      callback: (error, msg) => {
        if (error !== null) return;
        const { id, saved } = msg.json<{ id: string; saved: number }>();
        this.heard.push({ id, saved, at: unixMs() });
        this.#saved.set(id, saved);
        onSaved(this.lowest);
      },
    });
  }

  get lowest(): number {
    return this.#saved.size < this.nodes ? 0 : Math.min(...this.#saved.values());
  }

  reached(seq: number): Promise<void> {
    return until(`all nodes have saved ${seq}`, () => this.lowest >= seq, 300_000, 5);
  }
}

export async function until(
  what: string,
  holds: () => boolean | Promise<boolean>,
  timeoutMs = 60_000,
  pollMs = 50,
): Promise<void> {
  const deadlineAt = performance.now() + timeoutMs;
  while (!(await holds())) {
    if (performance.now() > deadlineAt) throw new Error(`waited ${timeoutMs} ms in vain: ${what}`);
    await delay(pollMs);
  }
}

/** Unix milliseconds with their fraction. */
export function unixMs(): number {
  return performance.timeOrigin + performance.now();
}

/** Of samples, sorted in place. */
export function quantile(samples: number[], share: number): number {
  samples.sort((a, b) => a - b);
  return round(samples[Math.min(samples.length - 1, Math.floor(samples.length * share))] ?? Number.NaN);
}

export function round(value: number, digits = 2): number {
  return Math.round(value * 10 ** digits) / 10 ** digits;
}

/** A guild of the benches: ids like Discord's, spread over partitions and shards. */
export function guildIdAt(index: number): string {
  return String((BigInt(1_000_000 + index) << 22n) | 1n);
}
