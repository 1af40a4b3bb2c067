/**
 * How long a dead worker's shards stay silent: from kill -9 of a worker under load to the first dispatch of one of its
 * shards handled elsewhere (its event in the log), and until all of them are served again.
 *
 * Most of it is the silence that makes others take it for dead (limits.memberDeadMs); the rest is claiming and RESUME.
 */
import { limits } from "../../src/core/limits.js";
import { connectedShards } from "../../src/core/members.js";
import {
  type BenchContext,
  type BenchProcess,
  quantile,
  round,
  type Stage,
  until,
  withStage,
} from "./stage.js";

export const name = "failover";
export const description = "kill -9 of a worker -> first dispatch of its shards handled elsewhere";
export const aims = { firstHandledMaxMs: { atMost: 10_000 }, identifiesTooMany: { atMost: 0 } };

const guilds = 500;
const shards = 6;
const workers = 3;
const seed = 1;
const ratePerSecond = 400;

export async function run({ quick, log }: BenchContext): Promise<object> {
  const kills = quick ? 3 : 20;
  return withStage(async (stage) => {
    await stage.dbnodes();
    const simulator = await stage.simulator(guilds, shards, seed);
    const processes = new Map<string, BenchProcess>();
    for (let n = 1; n <= workers; n += 1) {
      processes.set(`worker-${n}`, stage.worker("counting", simulator, shards, `worker-${n}`));
    }
    await Promise.all([...processes.values()].map((process) => process.ready));
    await served(stage, workers);
    const handled = await watchHandled(stage);
    await simulator.setTraffic({ running: true, ratePerSecond });
    const firstMs: number[] = [];
    const allMs: number[] = [];
    const list = await stage.list();
    for (let kill = 0; kill < kills; kill += 1) {
      const id = `worker-${(kill % workers) + 1}`;
      const held = list.workers().get(id)!.shards;
      handled.watch(id);
      await processes.get(id)!.kill();
      const killedAt = performance.now();
      await until(
        "a dispatch of its shards is handled elsewhere",
        () => held.some((shard) => handled.first.has(shard)),
        30_000,
        2,
      );
      firstMs.push(Math.min(...held.flatMap((shard) => handled.first.get(shard) ?? [])) - killedAt);
      await until("all of them", () => held.every((shard) => handled.first.has(shard)), 30_000, 2);
      allMs.push(Math.max(...held.map((shard) => handled.first.get(shard)!)) - killedAt);
      log(`kill ${kill + 1} of ${kills}: ${id}, first handled after ${round(firstMs.at(-1)!, 0)} ms`);
      const again = stage.worker("counting", simulator, shards, id);
      processes.set(id, again);
      await again.ready;
      await served(stage, workers);
    }
    await simulator.setTraffic({ running: false });
    const { identifies } = await simulator.stats();
    return {
      seed,
      kills,
      memberDeadMs: limits.memberDeadMs,
      firstHandledP50Ms: quantile([...firstMs], 0.5),
      firstHandledMaxMs: round(Math.max(...firstMs)),
      allServedP50Ms: quantile([...allMs], 0.5),
      allServedMaxMs: round(Math.max(...allMs)),
      identifiesTooMany: identifies - shards,
    };
  });
}

/** All shards are connected, once each, and every worker has some. */
async function served(stage: Stage, count: number): Promise<void> {
  const list = await stage.list();
  await until("every worker serves its share", () => {
    const live = [...list.workers().values()].filter((worker) => worker.live && worker.status === "ready");
    const connected = live.flatMap(connectedShards);
    return (
      live.length === count &&
      live.every((worker) => connectedShards(worker).length > 0) &&
      connected.length === shards &&
      new Set(connected).size === shards
    );
  });
}

/** When the first event of each shard was heard that another worker than the watched one wrote, by performance.now(). */
async function watchHandled(stage: Stage): Promise<{ first: Map<number, number>; watch(id: string): void }> {
  const nc = await stage.connect("bench events");
  const first = new Map<number, number>();
  let watched = "";
  nc.subscribe("guild.>", {
    callback: (error, msg) => {
      if (error !== null) return;
      const { by, cause } = msg.json<{ by: string; cause?: { shard?: number } }>();
      if (cause?.shard === undefined || by.startsWith(`${watched}.`) || first.has(cause.shard)) return;
      first.set(cause.shard, performance.now());
    },
  });
  await nc.flush();
  return {
    first,
    watch: (id) => {
      watched = id;
      first.clear();
    },
  };
}
