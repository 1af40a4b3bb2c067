/**
 * Owns a whole cluster in a test: a real nats-server, the simulator, database nodes and workers as processes of their
 * own through the command line, killed for real. Everything is gone when the test ends, however it ends.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import type { ExecutionContext } from "ava";
import { pino } from "pino";
import { ClusterList } from "../../src/cluster/list.js";
import { connectedShards, getReply } from "../../src/core/members.js";
import { dbnodeSubjects } from "../../src/core/subjects.js";
import { connectNats, type NatsConnection } from "../../src/nats/connect.js";
import { ensureStreams, packageRoot } from "../../src/nats/definitions.js";
import type { EmbeddedServer } from "../../src/nats/embedded.js";
import { requestJson } from "../../src/nats/messages.js";
import { type Simulator, type SimulatorOptions, startSimulator } from "../../src/simulator/index.js";
import { newestNatsVersion, tempDir, withServer } from "./nats.js";
import { type NatsCluster, withNatsCluster } from "./nats-cluster.js";
import { until } from "./until.js";

export { until } from "./until.js";

export interface ClusterOptions {
  version?: string;
  /** So many nats-servers, each with a replica of every stream; default: one server. */
  replicas?: 3 | 5;
  simulator?: SimulatorOptions;
  dbnodes?: number;
  workers?: number;
  shards?: number;
  bot?: string;
  /** Workers under their launcher, as users start them: so that they can be replaced by a successor. */
  launcher?: boolean;
  /** More environment for the workers. */
  workerEnv?: Readonly<Record<string, string>>;
  /** More flags for the workers. */
  workerArgs?: readonly string[];
  /** Shortens the workers' identify interval, as the simulator's is; their bot is `counting` then. */
  identifyIntervalMs?: number;
  /** Resolves at once instead of when everything is ready. */
  isReadyAwaited?: boolean;
  memoryMb?: number;
}

/** One role in a process of its own; `kill` is SIGKILL, `start` begins a new life with the same id and folder. */
export class RoleProcess {
  #child: ChildProcess | undefined;
  #output = "";

  constructor(
    readonly id: string,
    readonly args: readonly string[],
    readonly env: Record<string, string>,
    /** Below the build folder. */
    readonly entry = "src/cli.js",
  ) {}

  get output(): string {
    return this.#output;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Whether that entry is of this process, or of a generation below it. */
  isBehind(entry: { id: string; pid: number }): boolean {
    const hasLauncher = this.args[0] === "worker" && !this.args.includes("--no-launcher");
    return hasLauncher ? entry.id === this.id : entry.pid === this.pid;
  }

  get isRunning(): boolean {
    const child = this.#child;
    return child !== undefined && child.exitCode === null && child.signalCode === null;
  }

  start(): void {
    const child = spawn(process.execPath, [join(packageRoot(), "build", this.entry), ...this.args], {
      env: { ...process.env, ...this.env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    child.stdout.on("data", (chunk) => this.#keep(chunk));
    child.stderr.on("data", (chunk) => this.#keep(chunk));
    this.#child = child;
  }

  /** Sends a signal that does not end it: SIGSTOP, SIGCONT. */
  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }

  /** Sends the signal and waits for the end; the exit code, or null when the signal ended it. */
  async end(signal: NodeJS.Signals): Promise<number | null> {
    const child = this.#child;
    if (child === undefined) return null;
    if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
    const ended = new Promise<number | null>((resolve) => child.once("exit", (code) => resolve(code)));
    child.kill(signal);
    return ended;
  }

  #keep(chunk: Buffer): void {
    this.#output = (this.#output + chunk.toString("utf8")).slice(-200_000);
  }
}

export interface OracleVerdict {
  expected: number;
  lost: number;
  duplicated: number;
}

export class Cluster {
  readonly dbnodes: RoleProcess[] = [];
  readonly workers: RoleProcess[] = [];

  constructor(
    readonly servers: readonly EmbeddedServer[],
    readonly simulator: Simulator,
    readonly nc: NatsConnection,
    readonly list: ClusterList,
    readonly newWorker: (id: string, flags?: readonly string[]) => RoleProcess,
    private readonly natsCluster: NatsCluster | undefined,
  ) {}

  /** The nats-server, where there is one. */
  get server(): EmbeddedServer {
    return this.servers[0]!;
  }

  /** The nats-servers as a cluster, where there are several. */
  get nats(): NatsCluster {
    return this.natsCluster!;
  }

  /** Another worker, started; not ready yet. */
  join(id: string): RoleProcess {
    const worker = this.newWorker(id);
    this.workers.push(worker);
    worker.start();
    return worker;
  }

  /** Every running worker serves, every shard has one connected owner, every running database node is up. */
  async ready(): Promise<void> {
    await until("all members ready", () => {
      const workers = this.#live(this.workers, this.list.workers());
      const dbnodes = this.#live(this.dbnodes, this.list.dbnodes());
      const shards = workers.flatMap(connectedShards);
      const shardCount = this.list.topology()?.shardCount ?? -1;
      return (
        workers.length === this.workers.filter((role) => role.isRunning).length &&
        dbnodes.length === this.dbnodes.filter((role) => role.isRunning).length &&
        shards.length === shardCount &&
        new Set(shards).size === shardCount
      );
    });
  }

  /** Everything is ready, and every worker has its share. */
  async balanced(): Promise<void> {
    await this.ready();
    await until("shards shared out", () => {
      const counts = this.#live(this.workers, this.list.workers()).map(({ shards }) => shards.length);
      return Math.max(...counts) - Math.min(...counts) <= 1;
    });
    await this.ready();
  }

  /** So many more dispatches from Discord. */
  async dispatched(more: number): Promise<void> {
    const from = this.simulator.stats().dispatches;
    await until(`${more} more dispatches`, () => this.simulator.stats().dispatches >= from + more);
  }

  /** Everything dispatched is handled, in the log, and saved by every node. */
  async settled(): Promise<void> {
    this.simulator.setTraffic({ running: false });
    // Entries tell how it was up to a heartbeat ago: they must be of after everything was counted.
    let beats: Map<string, number> | undefined;
    const isOfNow = (key: string): boolean => this.list.beatsOf(key) >= (beats?.get(key) ?? 0) + 2;
    await until("everything handled and saved", async () => {
      const ledger = this.simulator.stats();
      if (ledger.sessions.some((session) => !session.connected || session.unsent > 0)) return false;
      if (ledger.answers.pending > 0) return false;
      // A node that has just come back, or lost its connection, may not answer yet.
      const verdict = await this.verdict().catch(() => undefined);
      if (verdict === undefined || verdict.lost > 0) return false;
      const workers = [...this.list.workers().values()].filter((worker) => worker.live);
      const saved = [...this.list.dbnodes().values()].filter((node) => node.live);
      const members = [...workers.map(({ id }) => `worker.${id}`), ...saved.map(({ id }) => `dbnode.${id}`)];
      beats ??= new Map(members.map((key) => [key, this.list.beatsOf(key)]));
      if (!members.every(isOfNow)) return false;
      const ends = new Set(saved.map((node) => `${node.saved}/${node.streamLast}`));
      return (
        workers.every((worker) => worker.queued === 0 && worker.dirtyGuilds === 0) &&
        ends.size === 1 &&
        saved.every((node) => node.saved === node.streamLast)
      );
    });
  }

  checksums(): string[] {
    return [...this.list.dbnodes().values()].map((node) => node.checksum);
  }

  /** The oracle: the simulator's ledger against what the first database node has. */
  async verdict(): Promise<OracleVerdict> {
    const verdict = { expected: 0, lost: 0, duplicated: 0 };
    const { guilds } = this.simulator.ledger();
    for (const [guildId, expected] of Object.entries(guilds)) {
      if (guildId === "dm") continue;
      const state = await this.stateOf(guildId);
      for (const [t, count] of Object.entries(expected.counts)) {
        if (t === "GUILD_CREATE" || t === "GUILD_DELETE") continue;
        const got = state?.counts[t] ?? 0;
        verdict.expected += count;
        verdict.lost += Math.max(0, count - got);
        verdict.duplicated += Math.max(0, got - count);
      }
    }
    return verdict;
  }

  /** A guild's state as a database node has it, and the ids it has counted. */
  async stateOf(guildId: string): Promise<{ counts: Record<string, number>; idSum: number } | undefined> {
    const request = { v: 1, guildId, atLeastSeq: 0 };
    const reply = await requestJson(
      this.nc,
      dbnodeSubjects.get(this.dbnodes[0]!.id),
      request,
      getReply,
      5_000,
    );
    return reply?.outcome === "found"
      ? (reply.document.state as { counts: Record<string, number>; idSum: number })
      : undefined;
  }

  #live<T extends { id: string; pid: number; live: boolean; status: string }>(
    processes: readonly RoleProcess[],
    entries: Map<string, T>,
  ): T[] {
    return [...entries.values()].filter(
      (entry) => entry.live && entry.status === "ready" && processes.some((role) => role.isBehind(entry)),
    );
  }
}

/** Starts a cluster with its traffic paused; ready when this resolves. */
export async function withCluster(t: ExecutionContext, options: ClusterOptions = {}): Promise<Cluster> {
  const folder = await tempDir(t);
  const { version = newestNatsVersion, replicas } = options;
  const nats =
    replicas === undefined
      ? undefined
      : await withNatsCluster(t, { versions: Array<string>(replicas).fill(version) });
  const servers = nats?.servers ?? [await withServer(t, { version })];
  const url = servers.map((server) => server.url).join(",");
  const simulator = await startSimulator({
    guilds: 200,
    maxConcurrency: 16,
    paused: true,
    ...options.simulator,
  });
  t.log(`seed ${simulator.seed}`);
  t.teardown(() => simulator.close());
  const nc = await connectNats({ url, name: "test" });
  t.teardown(() => nc.close());
  await ensureStreams(nc, { replicas });
  const list = await ClusterList.open(nc, pino({ level: "silent" }));
  t.teardown(() => list.stop());
  const env = {
    NATS_URL: url,
    DISCORD_API: simulator.apiUrl,
    DISCORD_TOKEN: simulator.token,
    GUILDSTREAM_DATA: folder,
    ...(replicas === undefined ? {} : { GUILDSTREAM_REPLICAS: String(replicas) }),
  };
  const newWorker = (id: string, flags: readonly string[] = []): RoleProcess => {
    const shards = String(options.shards ?? 2);
    if (options.identifyIntervalMs !== undefined) {
      const args = [id, shards, String(options.identifyIntervalMs)];
      return new RoleProcess(id, args, env, "test/helpers/worker-process.js");
    }
    const launcher = options.launcher === true ? [] : ["--no-launcher"];
    const bot = options.bot ?? "counting";
    const args = ["worker", ...launcher, "--id", id, "--shards", shards, "--bot", bot];
    const memory = options.memoryMb === undefined ? [] : ["--memory-mb", String(options.memoryMb)];
    return new RoleProcess(id, [...args, ...memory, ...(options.workerArgs ?? []), ...flags], {
      ...env,
      ...options.workerEnv,
    });
  };
  const cluster = new Cluster(servers, simulator, nc, list, newWorker, nats);
  for (let n = 1; n <= (options.dbnodes ?? 2); n += 1) {
    const id = `db-${n}`;
    cluster.dbnodes.push(new RoleProcess(id, ["dbnode", "--id", id, "--data", join(folder, id)], env));
  }
  for (let n = 1; n <= (options.workers ?? 1); n += 1) cluster.workers.push(newWorker(`worker-${n}`));
  t.teardown(async () => {
    const roles = [...cluster.dbnodes, ...cluster.workers];
    if (!t.passed)
      for (const role of roles)
        t.log(`--- ${role.id}\n${role.output.slice(-Number(process.env.GUILDSTREAM_TEST_OUTPUT ?? 3_000))}`);
    await Promise.all(roles.map((role) => role.end("SIGKILL")));
  });
  for (const role of [...cluster.dbnodes, ...cluster.workers]) role.start();
  if (options.isReadyAwaited !== false) await cluster.ready();
  return cluster;
}
