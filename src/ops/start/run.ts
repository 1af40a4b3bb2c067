/**
 * Owns one run of `guildstream start`, from the first process to the summary: boot, baseline, traffic, live view, drain,
 * check, stop.
 *
 * Invariants:
 * - The summary's numbers are taken after the traffic has ended and before anything is stopped.
 * - Nothing that was started is left running, however the run ends.
 */
import { join } from "node:path";
import { pino } from "pino";
import { ClusterList } from "../../cluster/list.js";
import { GuildstreamError } from "../../core/errors.js";
import { limits } from "../../core/limits.js";
import { connectNats, type NatsConnection } from "../../nats/connect.js";
import { ensureStreams } from "../../nats/definitions.js";
import { streamInfo } from "../../nats/stream-info.js";
import { collect } from "./collect.js";
import { openDataFolder } from "./data-folder.js";
import { guildsInLog, readCounted } from "./guild-states.js";
import { LiveCheck } from "./live-check.js";
import { type Counted, judge, type Verdict } from "./oracle.js";
import { Pictures } from "./pictures.js";
import { Screen } from "./screen.js";
import { settle } from "./settle.js";
import type { SimulatorClient } from "./simulator-client.js";
import { problemsOf, type Summary } from "./summary.js";
import { System } from "./system.js";

export interface RunOptions {
  cliPath: string;
  version: string;
  dataDir: string;
  reset: boolean;
  natsUrl: string | undefined;
  /** Real Discord, or a server that speaks its API; undefined: the simulator. */
  discord: { api: string | undefined; token: string } | undefined;
  /** The simulator's fixed token. */
  simulatorToken: string;
  /** Name or file for the workers, and the name the bot gives itself. */
  bot: string;
  botName: string;
  guilds: number;
  rate: number;
  seed: number;
  durationS: number | undefined;
  workers: number;
  dbnodes: number;
  shards: number | "auto";
  memoryMb: number;
  logLevel: string;
  json: boolean;
  /** Aborts when somebody asks the run to end. */
  stop: AbortSignal;
  /** Told at once, so that a second signal can leave nothing behind. */
  onSystem: (system: System) => void;
}

/** The counting bot, whose states the check can compare. */
const countingBot = "counting";

/** Resolves with the summary; with undefined when it was stopped before any traffic ran. */
export async function run(options: RunOptions): Promise<Summary | undefined> {
  const discordName = options.discord === undefined ? "simulator" : (options.discord.api ?? "discord.com");
  const folder = await openDataFolder(
    options.dataDir,
    { bot: options.botName, discord: discordName },
    options.reset,
  );
  const screen = new Screen(options.json ? process.stderr : process.stdout);
  const system = new System({ ...options, dataDir: folder.path, onNote: (text) => screen.note(text) });
  options.onSystem(system);
  const theRun = new Run(options, folder.path, system, screen);
  try {
    return await theRun.run();
  } catch (error) {
    if (error === stoppedEarly) return undefined;
    throw error;
  } finally {
    screen.endLive();
    await system.stop((what) => screen.step(what));
    await theRun.close();
    folder.release();
  }
}

const stoppedEarly = Symbol("stopped before any traffic");

class Run {
  readonly #options: RunOptions;
  readonly #dataDir: string;
  readonly #system: System;
  readonly #screen: Screen;
  readonly #stopped: Promise<never>;
  readonly #baseline = new Map<string, Counted>();
  #nc: NatsConnection | undefined;
  #list: ClusterList | undefined;
  #simulator: SimulatorClient | undefined;
  #baseSeq = 0;

  constructor(options: RunOptions, dataDir: string, system: System, screen: Screen) {
    this.#options = options;
    this.#dataDir = dataDir;
    this.#system = system;
    this.#screen = screen;
    this.#stopped = new Promise((_, reject) => {
      options.stop.addEventListener("abort", () => reject(stoppedEarly), { once: true });
    });
    this.#stopped.catch(() => {}); // Raced while booting only.
  }

  async run(): Promise<Summary> {
    await this.#boot();
    const liveCheck = this.#isCounted
      ? new LiveCheck(this.#nc!, this.#system.dbnodeIds[0]!, this.#simulator!, this.#baseline)
      : undefined;
    const pictures = new Pictures({
      nc: this.#nc!,
      list: this.#list!,
      simulator: this.#simulator,
      baseSeq: this.#baseSeq,
      check: liveCheck,
      notes: this.#screen.notes,
    });
    this.#screen.startLive(() => pictures.take());
    await this.#simulator?.setTraffic({ running: true });
    liveCheck?.start();
    const durationS = await this.#runTraffic().finally(() => liveCheck?.stop());
    pictures.phase = "draining";
    await this.#simulator?.setTraffic({ running: false });
    const open = await this.#orFailed(
      settle(this.#sources(), (still) => {
        pictures.phase = `draining: waiting for ${still[0] ?? "quiet"}`;
      }),
    );
    pictures.phase = "checking";
    const verdict = await this.#orFailed(this.#check());
    const summary = await collect({
      ...this.#sources(),
      system: this.#system,
      verdict,
      durationS,
      baseSeq: this.#baseSeq,
      bot: this.#options.botName,
      version: this.#options.version,
    });
    this.#screen.endLive();
    pictures.stop();
    return { ...summary, problems: problemsOf(summary, open, verdict?.differences ?? []) };
  }

  async close(): Promise<void> {
    this.#list?.stop();
    await this.#nc?.close();
  }

  get #isCounted(): boolean {
    return this.#options.discord === undefined && this.#options.botName === countingBot;
  }

  #sources() {
    const { workerIds, dbnodeIds } = this.#system;
    return { nc: this.#nc!, list: this.#list!, simulator: this.#simulator, workerIds, dbnodeIds };
  }

  async #boot(): Promise<void> {
    const { guilds, rate, seed, shards, discord, simulatorToken } = this.#options;
    const natsUrl = await this.#whileBooting(this.#system.startNats());
    const nc = await this.#whileBooting(connectNats({ url: natsUrl, name: "guildstream start" }));
    this.#nc = nc;
    await this.#whileBooting(ensureStreams(nc));
    this.#screen.step(`nats-server ${nc.info!.version} at ${nc.getServer()}`);
    const log = pino(
      { level: this.#options.logLevel },
      pino.destination({ dest: join(this.#dataDir, "logs", "start.log"), sync: true }),
    );
    this.#list = await this.#whileBooting(ClusterList.open(nc, log));
    this.#baseSeq = (await streamInfo(nc)).lastSeq;
    let access = discord;
    let shardCount = shards;
    if (access === undefined) {
      this.#simulator = await this.#whileBooting(this.#system.startSimulator({ guilds, rate, seed, shards }));
      access = { api: this.#simulator.apiUrl, token: simulatorToken };
      if (shardCount === "auto") {
        // At least two shards a worker, so that there is something to share out.
        const recommended = await this.#simulator.recommendedShards(simulatorToken);
        shardCount = Math.max(recommended, 2 * this.#options.workers);
      }
      this.#screen.step(`simulated Discord: ${guilds} guilds, seed ${seed}, at ${this.#simulator.apiUrl}`);
    }
    await this.#whileBooting(this.#system.startDbnodes(natsUrl));
    this.#screen.step(`database nodes: ${this.#system.dbnodeIds.join(", ")}`);
    await this.#whileBooting(this.#system.startWorkers(natsUrl, access, shardCount));
    await this.#whileBooting(this.#allShardsServed());
    this.#screen.step(
      `workers: ${this.#system.workerIds.join(", ")}; logs in ${join(this.#dataDir, "logs")}`,
    );
    if (this.#isCounted) await this.#whileBooting(this.#takeBaseline());
  }

  /** What earlier runs have counted: the folder keeps the guilds. */
  async #takeBaseline(): Promise<void> {
    const guildIds = await guildsInLog(this.#nc!);
    const { lastSeq } = await streamInfo(this.#nc!);
    const states = await readCounted(this.#nc!, this.#system.dbnodeIds[0]!, guildIds, lastSeq);
    for (const [guildId, counted] of states) this.#baseline.set(guildId, counted);
    if (guildIds.length > 0) this.#screen.step(`${guildIds.length} guilds are known from earlier runs`);
  }

  async #allShardsServed(): Promise<void> {
    for (;;) {
      const list = this.#list!;
      const shardCount = list.topology()?.shardCount;
      const workers = [...list.workers().values()].filter((worker) => worker.live);
      const served = new Set(workers.flatMap((worker) => (worker.status === "ready" ? worker.shards : [])));
      const isReady = this.#system.workerIds.every((id) => list.workers().get(id)?.status === "ready");
      if (shardCount !== undefined && isReady && served.size >= shardCount) return;
      await new Promise((resolve) => setTimeout(resolve, limits.ops.settlePollMs));
    }
  }

  /** Until the duration is over or somebody asks to end; resolves with the seconds it ran. */
  async #runTraffic(): Promise<number> {
    const startedAt = performance.now();
    const { durationS, stop } = this.#options;
    const ending: Promise<void>[] = [this.#stopped.catch(() => {})];
    let timer: NodeJS.Timeout | undefined;
    if (durationS !== undefined) {
      ending.push(
        new Promise((resolve) => {
          timer = setTimeout(resolve, durationS * 1_000);
        }),
      );
    }
    try {
      if (!stop.aborted) await this.#orFailed(Promise.race(ending));
    } finally {
      clearTimeout(timer);
    }
    return (performance.now() - startedAt) / 1_000;
  }

  async #check(): Promise<Verdict | undefined> {
    if (!this.#isCounted) return undefined;
    const nc = this.#nc!;
    const ledger = (await this.#simulator!.ledger()).guilds;
    const guildIds = await guildsInLog(nc);
    const { lastSeq } = await streamInfo(nc);
    const states = await readCounted(nc, this.#system.dbnodeIds[0]!, guildIds, lastSeq);
    return judge(ledger, this.#baseline, states);
  }

  #orFailed<T>(work: Promise<T>): Promise<T> {
    return Promise.race([work, this.#system.failed]);
  }

  async #whileBooting<T>(work: Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const tooLong = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        const message = `not everything was ready after ${limits.ops.bootTimeoutMs / 1_000} s`;
        const hint = `look into the logs in ${join(this.#dataDir, "logs")}`;
        reject(new GuildstreamError("ABORTED", message, { hint }));
      }, limits.ops.bootTimeoutMs);
    });
    try {
      if (this.#options.stop.aborted) throw stoppedEarly;
      return await Promise.race([work, this.#stopped, this.#system.failed, tooLong]);
    } finally {
      clearTimeout(timer);
    }
  }
}
