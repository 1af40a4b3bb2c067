/**
 * Owns the processes of a run: their order of starting (server, simulator, database nodes, workers) and the reverse of
 * stopping, and that none is left behind.
 *
 * Invariants: whatever was started is stopped by `stop` or `kill`, also after a failed start; if this process is killed
 * the roles notice by their channels and the watchdog ends the server.
 */
import { join } from "node:path";
import { limits } from "../../core/limits.js";
import { Child, type ChildSpec } from "./child.js";
import { NatsKeeper } from "./nats-keeper.js";
import { SimulatorClient } from "./simulator-client.js";
import { Watchdog } from "./watchdog.js";

export interface SystemOptions {
  /** The compiled command line, which every role is a command of. */
  cliPath: string;
  dataDir: string;
  natsUrl: string | undefined;
  logLevel: string;
  bot: string;
  memoryMb: number;
  workers: number;
  dbnodes: number;
  onNote: (text: string) => void;
}

/** The Discord that workers connect to. */
export interface DiscordAccess {
  api: string | undefined;
  token: string;
}

export class System {
  readonly workerIds: readonly string[];
  readonly dbnodeIds: readonly string[];
  #nats: NatsKeeper | undefined;
  #simulator: Child | undefined;
  readonly #dbnodes: Child[] = [];
  readonly #workers: Child[] = [];
  readonly #options: SystemOptions;
  readonly #watchdog = new Watchdog();
  readonly #failed: Promise<never>;
  #fail!: (error: unknown) => void;

  constructor(options: SystemOptions) {
    this.#options = options;
    this.workerIds = Array.from({ length: options.workers }, (_, i) => `worker-${i + 1}`);
    this.dbnodeIds = Array.from({ length: options.dbnodes }, (_, i) => `dbnode-${i + 1}`);
    this.#failed = new Promise((_, reject) => {
      this.#fail = reject;
    });
    this.#failed.catch(() => {}); // Raced by whoever runs the system.
  }

  /** Rejects when one of the processes is given up; never resolves. */
  get failed(): Promise<never> {
    return this.#failed;
  }

  /** Names and process ids of what runs now. */
  get pids(): Record<string, number> {
    const pids: Record<string, number> = {};
    if (this.#nats !== undefined) pids["nats-server"] = this.#nats.pid;
    for (const child of this.#children()) if (child.pid !== undefined) pids[child.name] = child.pid;
    return pids;
  }

  /** How often each was started again; only those that were. */
  get restarts(): Record<string, number> {
    const all = this.#children().map((child) => [child.name, child.restarted] as const);
    if (this.#nats !== undefined) all.unshift(["nats-server", this.#nats.restarted]);
    return Object.fromEntries(all.filter(([, count]) => count > 0));
  }

  /** The URL of NATS: the given one, or that of the embedded server, which it starts. */
  async startNats(): Promise<string> {
    const { natsUrl, dataDir, onNote } = this.#options;
    if (natsUrl !== undefined) return natsUrl;
    this.#nats = await NatsKeeper.start({
      dataDir: join(dataDir, "nats"),
      onNote,
      onSpawn: (pid) => this.#watchdog.tell("server", pid),
    });
    this.#nats.failed.catch(this.#fail);
    return this.#nats.url;
  }

  /** Starts the simulator, its traffic paused. */
  async startSimulator(world: { guilds: number; rate: number; seed: number; shards: number | "auto" }) {
    this.#simulator = this.#spawn("simulator", {
      restarts: false,
      args: [
        "simulator",
        ...["--guilds", world.guilds, "--rate", world.rate, "--seed", world.seed, "--shards", world.shards],
        ...["--port", 0, "--max-concurrency", limits.ops.simulatorMaxConcurrency, "--paused"],
      ],
      env: { DISCORD_TOKEN: undefined },
    });
    const { url } = await this.#simulator.ready;
    return new SimulatorClient(url!);
  }

  async startDbnodes(natsUrl: string): Promise<void> {
    for (const id of this.dbnodeIds) {
      const args = ["dbnode", "--id", id, "--data", this.#options.dataDir];
      this.#dbnodes.push(
        this.#spawn(id, { restarts: true, args, env: { NATS_URL: natsUrl, DISCORD_TOKEN: undefined } }),
      );
    }
    await Promise.all(this.#dbnodes.map((child) => child.ready));
  }

  async startWorkers(natsUrl: string, discord: DiscordAccess, shards: number | "auto"): Promise<void> {
    const { bot, memoryMb } = this.#options;
    for (const id of this.workerIds) {
      const args = ["worker", "--id", id, "--bot", bot, "--shards", shards, "--memory-mb", memoryMb];
      this.#workers.push(
        this.#spawn(id, {
          restarts: true,
          args,
          // Through the environment: the command line shows in `ps`.
          env: { NATS_URL: natsUrl, DISCORD_TOKEN: discord.token, DISCORD_API: discord.api },
        }),
      );
    }
    await Promise.all(this.#workers.map((child) => child.ready));
  }

  /** In order: nobody loses the one it needs to drain. */
  async stop(onStep: (what: string) => void): Promise<void> {
    onStep("stopping the workers");
    await Promise.all(this.#workers.map((child) => child.stop()));
    onStep("stopping the database nodes");
    await Promise.all(this.#dbnodes.map((child) => child.stop()));
    await this.#simulator?.stop();
    onStep("stopping nats-server");
    await this.#nats?.stop();
    this.#watchdog.dismiss();
  }

  /** For leaving at once: everything is as after a crash, which the next start repairs. */
  kill(): void {
    for (const child of this.#children()) child.kill();
    this.#nats?.kill();
    this.#watchdog.dismiss();
  }

  #children(): Child[] {
    const simulator = this.#simulator === undefined ? [] : [this.#simulator];
    return [...simulator, ...this.#dbnodes, ...this.#workers];
  }

  #spawn(
    name: string,
    spec: Pick<ChildSpec, "restarts" | "env"> & { args: readonly (string | number)[] },
  ): Child {
    const { cliPath, dataDir, logLevel, onNote } = this.#options;
    const child = new Child({
      name,
      restarts: spec.restarts,
      args: [cliPath, ...spec.args.map(String), "--log-level", logLevel],
      // What start was given for itself must not reach the roles a second way.
      env: { DISCORD_TOKEN_FILE: undefined, GUILDSTREAM_ID: undefined, ...spec.env },
      logFile: join(dataDir, "logs", `${name}.log`),
      onNote,
      onSpawn: (pid) => this.#watchdog.tell("role", pid),
    });
    child.failed.catch(this.#fail);
    return child;
  }
}
