/**
 * A deploy under load: the running worker hands everything to a successor below the same launcher, as `npm run worker`
 * does it. What is lost, doubled or late; how long the longest gap in handling is, beside the longest gap of equally long
 * steady traffic just before; how long a guild stands still; what it takes in memory.
 *
 * A gap is the time between two events of the log as heard here, so it has everything in it that a user could see.
 */
import type { ChildProcess } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import type { ClusterList } from "../../src/cluster/list.js";
import { streamInfo } from "../../src/nats/stream-info.js";
import { rssBytes } from "../../src/ops/processes.js";
import { guildsInLog, readCounted } from "../../src/ops/start/guild-states.js";
import { judge } from "../../src/ops/start/oracle.js";
import { settle } from "../../src/ops/start/settle.js";
import type { SimulatorClient } from "../../src/ops/start/simulator-client.js";
import { type BenchContext, round, type Stage, until, withStage } from "./stage.js";

export const name = "hotboot";
export const description = "a deploy under load: gaps, pauses, losses, memory, at 500 and 5,000 dispatches/s";

const cases = [
  { key: "at2500GuildsAnd500PerS", guilds: 2_500, ratePerSecond: 500, totalMaxMs: 5_000 },
  { key: "at2500GuildsAnd5000PerS", guilds: 2_500, ratePerSecond: 5_000, totalMaxMs: 5_000 },
  { key: "at20000GuildsAnd500PerS", guilds: 20_000, ratePerSecond: 500, totalMaxMs: 20_000 },
];

export const aims = Object.fromEntries(
  cases.flatMap(({ key, totalMaxMs }) => [
    [`${key}.lost`, { atMost: 0 }],
    [`${key}.doubled`, { atMost: 0 }],
    [`${key}.late`, { atMost: 0 }],
    [`${key}.identifiesTooMany`, { atMost: 0 }],
    [`${key}.longestGapRatio`, { atMost: 2 }],
    [`${key}.pauseP99Ms`, { atMost: 5 }],
    [`${key}.movedMs`, { atMost: totalMaxMs }],
  ]),
);

const seed = 1;
const guildsPerShard = 2_500;
const MiB = 1024 * 1024;

export async function run({ quick, log }: BenchContext): Promise<object> {
  const figures: Record<string, object | number> = { seed };
  for (const each of quick ? cases.slice(0, 1) : cases) {
    log(`${each.guilds} guilds, ${each.ratePerSecond} dispatches/s`);
    figures[each.key] = await withStage((stage) => measure(stage, each, log));
  }
  figures.inARow = await withStage((stage) => inARow(stage, quick ? 3 : 10, log));
  return figures;
}

async function measure(
  stage: Stage,
  { guilds, ratePerSecond }: { guilds: number; ratePerSecond: number },
  log: BenchContext["log"],
): Promise<object> {
  const shards = Math.max(2, Math.ceil(guilds / guildsPerShard));
  const { simulator, worker, list, memory, gaps } = await begin(stage, guilds, shards);
  await simulator.setTraffic({ running: true, ratePerSecond });
  // Every guild has had its first dispatches, and the code is warm.
  await delay(guilds > guildsPerShard ? 20_000 : 12_000);
  const steadyBytes = await memory.ofGenerations();
  const peak = memory.watch();
  const beganAt = performance.now();
  const progress = await deploy(worker, list);
  const endedAt = performance.now();
  const peakBytes = await peak();
  await delay(1_000);
  await simulator.setTraffic({ running: false });
  const steady = gaps.longest(beganAt - (endedAt - beganAt), beganAt);
  const during = gaps.longest(beganAt, endedAt);
  const { lost, duplicated, handled } = await verdict(stage, simulator, list, log);
  const { answers, identifies } = await simulator.stats();
  return {
    guilds,
    ratePerSecond,
    shards,
    handled,
    lost,
    doubled: duplicated,
    late: answers.late + answers.never,
    answerP99Ms: round(answers.p99Ms ?? Number.NaN),
    identifiesTooMany: identifies - shards,
    longestGapMs: round(during.all),
    longestGapSteadyMs: round(steady.all),
    longestGapRatio: round(during.all / steady.all),
    longestGapOfAShardMs: round(during.ofAShard),
    longestGapOfAShardSteadyMs: round(steady.ofAShard),
    guildsMoved: progress.guildsMoved,
    pauseP50Ms: progress.pauseP50Ms,
    pauseP99Ms: progress.pauseP99Ms,
    pauseMaxMs: progress.pauseMaxMs,
    movedMs: progress.movedMs,
    totalMs: Math.round(endedAt - beganAt),
    steadyMiB: Math.round(steadyBytes / MiB),
    peakMiB: Math.round(peakBytes / MiB),
    peakRatio: round(peakBytes / steadyBytes),
  };
}

/** One deploy after the other under load: neither memory nor handles may drift from generation to generation. */
async function inARow(stage: Stage, deploys: number, log: BenchContext["log"]): Promise<object> {
  const shards = 2;
  const { simulator, worker, list, memory } = await begin(stage, 1_000, shards);
  await simulator.setTraffic({ running: true, ratePerSecond: 500 });
  await delay(6_000);
  const bytes: number[] = [];
  const handles: number[] = [];
  for (let deployed = 1; deployed <= deploys; deployed += 1) {
    await deploy(worker, list);
    await until("one generation is left", async () => (await memory.generations()).length === 1);
    await delay(4_000);
    bytes.push(await memory.ofGenerations());
    handles.push(await memory.handles());
    log(
      `deploy ${deployed} of ${deploys}: ${Math.round(bytes.at(-1)! / MiB)} MiB, ${handles.at(-1)} handles`,
    );
  }
  await simulator.setTraffic({ running: false });
  const { lost, duplicated } = await verdict(stage, simulator, list, log);
  const { identifies } = await simulator.stats();
  return {
    deploys,
    lost,
    doubled: duplicated,
    identifiesTooMany: identifies - shards,
    memoryDriftRatio: round(bytes.at(-1)! / bytes[0]!),
    handlesDrift: handles.at(-1)! - handles[0]!,
  };
}

interface Running {
  simulator: SimulatorClient;
  worker: ChildProcess;
  list: ClusterList;
  memory: Memory;
  gaps: Gaps;
}

async function begin(stage: Stage, guilds: number, shards: number): Promise<Running> {
  await stage.dbnodes();
  const simulator = await stage.simulator(guilds, shards, seed);
  const worker = stage.launcher("counting", simulator, shards);
  const list = await stage.list();
  await until("the worker serves", () => list.workers().get("worker-1")?.status === "ready", 120_000);
  const gaps = new Gaps();
  const nc = await stage.connect("bench events");
  nc.subscribe("guild.>", {
    callback: (error, msg) => {
      // The shard is looked for in the text: parsing every event would make this process the slowest.
      if (error === null) gaps.heard(/"cause":\{"shard":(\d+)/.exec(msg.string())?.[1] ?? "");
    },
  });
  await nc.flush();
  return { simulator, worker, list, memory: new Memory(worker.pid!), gaps };
}

/** Asks for a hotboot and waits until the successor serves; what the parent said of it last. */
async function deploy(worker: ChildProcess, list: ClusterList) {
  const before = list.workers().get("worker-1")!.incarnation;
  let last: { guildsMoved: number; pauseP50Ms: number; pauseP99Ms: number; pauseMaxMs: number } | undefined;
  let handingAt: number | undefined;
  let movedMs = 0;
  const stop = list.onChange(() => {
    const entry = list.workers().get("worker-1");
    if (entry?.incarnation !== before || entry.hotboot === undefined) return;
    last = entry.hotboot;
    if (entry.hotboot.step === "handing") handingAt ??= performance.now();
    if (handingAt !== undefined) movedMs = performance.now() - handingAt;
  });
  let askedAt = Number.NEGATIVE_INFINITY;
  await until(
    "the successor serves",
    () => {
      const now = list.workers().get("worker-1");
      // The launcher hears it once the newest generation has told it that it is ready.
      if (now?.incarnation === before && last === undefined && performance.now() - askedAt > 2_000) {
        askedAt = performance.now();
        worker.kill("SIGUSR2");
      }
      return now !== undefined && now.incarnation !== before && now.status === "ready";
    },
    120_000,
    5,
  );
  stop();
  return {
    guildsMoved: 0,
    pauseP50Ms: 0,
    pauseP99Ms: 0,
    pauseMaxMs: 0,
    ...last,
    movedMs: Math.round(movedMs),
  };
}

async function verdict(
  stage: Stage,
  simulator: SimulatorClient,
  list: ClusterList,
  log: BenchContext["log"],
) {
  const nc = await stage.connect("bench oracle");
  const open = await settle(
    { nc, list, simulator, workerIds: ["worker-1"], dbnodeIds: ["db-1", "db-2"] },
    (waiting) => log(`waiting for ${waiting.join(", ")}`),
  );
  if (open.length > 0) log(`not settled: ${open.join(", ")}`);
  const { lastSeq } = await streamInfo(nc);
  const states = await readCounted(nc, "db-1", await guildsInLog(nc), lastSeq);
  const { guilds } = await simulator.ledger();
  const judged = judge(guilds, new Map(), states);
  for (const difference of judged.differences) log(difference);
  return judged;
}

/** When events were heard, overall and by shard. */
class Gaps {
  readonly #heard: { at: number; shard: string }[] = [];

  heard(shard: string): void {
    this.#heard.push({ at: performance.now(), shard });
  }

  /** Between two events, within that time; the edges count as events. */
  longest(from: number, to: number): { all: number; ofAShard: number } {
    const last = new Map<string, number>();
    let [lastAt, all, ofAShard] = [from, 0, 0];
    for (const { at, shard } of this.#heard) {
      if (at < from || at > to) continue;
      all = Math.max(all, at - lastAt);
      lastAt = at;
      ofAShard = Math.max(ofAShard, at - (last.get(shard) ?? from));
      last.set(shard, at);
    }
    return { all: Math.max(all, to - lastAt), ofAShard };
  }
}

/** What the generations below the launcher take. */
class Memory {
  readonly #launcher: number;

  constructor(launcher: number) {
    this.#launcher = launcher;
  }

  async generations(): Promise<number[]> {
    const path = `/proc/${this.#launcher}/task/${this.#launcher}/children`;
    const text = await readFile(path, "utf8").catch(() => "");
    return text.trim().split(/ +/).filter(Boolean).map(Number);
  }

  async ofGenerations(): Promise<number> {
    const bytes = await Promise.all((await this.generations()).map(rssBytes));
    return bytes.reduce<number>((sum, each) => sum + (each ?? 0), 0);
  }

  /** Open file descriptors of the newest generation. */
  async handles(): Promise<number> {
    return (await readdir(`/proc/${(await this.generations()).at(-1)}/fd`)).length;
  }

  /** Looks again and again; what it returns gives the most there was, and ends it. */
  watch(): () => Promise<number> {
    let most = 0;
    let stopped = false;
    const watching = (async () => {
      while (!stopped) {
        most = Math.max(most, await this.ofGenerations());
        await delay(20);
      }
    })();
    return async () => {
      stopped = true;
      await watching;
      return most;
    };
  }
}
