/**
 * What a dispatch that changes nothing costs in the worker, beside a bare @discordjs/ws consumer. Both hang on the
 * same simulator at the same time, so they receive the same dispatches under the same load of the machine.
 */
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { packageRoot } from "../../src/nats/definitions.js";
import type { BenchProcess } from "./stage.js";
import { type BenchContext, round, until, withStage } from "./stage.js";

export const name = "dispatch";
export const description = "CPU of a dispatch that changes nothing, beside a bare @discordjs/ws consumer";
export const aims = { cpuRatio: { atMost: 2 } };

const guilds = 2_500;
const shards = 2;
const seed = 1;
const ratePerSecond = 4_000;

export async function run({ quick, log }: BenchContext): Promise<object> {
  const seconds = quick ? 4 : 10;
  return withStage(async (stage) => {
    const simulator = await stage.simulator(guilds, shards, seed);
    const bare = stage.bareConsumer(simulator, shards);
    const bot = join(packageRoot(), "build", "scripts", "bench", "idle-bot.js");
    const worker = stage.worker(bot, simulator, shards);
    await Promise.all([bare.ready, worker.ready]);
    const list = await stage.list();
    const entry = () => list.workers().get("worker-1");
    await until("the worker has every guild", () => (entry()?.guilds ?? 0) >= guilds);
    log(`${guilds} guilds, seed ${seed}, ${ratePerSecond}/s for ${seconds} s, after a warm-up`);

    await simulator.setTraffic({ running: true, ratePerSecond });
    await delay(quick ? 2_000 : 5_000);
    const before = await measure(simulator, [bare, worker]);
    const handledBefore = entry()?.handled ?? 0;
    await delay(seconds * 1_000);
    const after = await measure(simulator, [bare, worker]);
    const handledAfter = entry()?.handled ?? 0;
    await simulator.setTraffic({ running: false });

    const dispatches = after.dispatches - before.dispatches;
    const elapsedSeconds = (after.at - before.at) / 1_000;
    const bareCpuMicros = (after.cpu[0]! - before.cpu[0]!) / dispatches;
    const workerCpuMicros = (after.cpu[1]! - before.cpu[1]!) / dispatches;
    return {
      seed,
      guilds,
      dispatches,
      dispatchesPerSecond: Math.round(dispatches / elapsedSeconds),
      handledPerSecond: Math.round((handledAfter - handledBefore) / elapsedSeconds),
      bareCpuMicros: round(bareCpuMicros, 1),
      workerCpuMicros: round(workerCpuMicros, 1),
      bareDispatchesPerCpuSecond: Math.round(1_000_000 / bareCpuMicros),
      workerDispatchesPerCpuSecond: Math.round(1_000_000 / workerCpuMicros),
      cpuRatio: round(workerCpuMicros / bareCpuMicros),
    };
  });
}

async function measure(
  simulator: { stats(): Promise<{ dispatches: number }> },
  processes: readonly BenchProcess[],
): Promise<{ at: number; dispatches: number; cpu: number[] }> {
  const cpu = await Promise.all(processes.map((child) => child.cpuMicros()));
  const { dispatches } = await simulator.stats();
  return { at: performance.now(), dispatches, cpu };
}
