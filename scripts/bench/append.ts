/**
 * What the guild log takes: plain publishes and fenced appends by the same kind of client in turns, then the whole
 * path with two database nodes saving on the same machine: one append a mutation, and coalesced under overload.
 */
import { setTimeout as delay } from "node:timers/promises";
import { GuildLog } from "../../src/nats/guild-log.js";
import { cpuMicros } from "../../src/ops/processes.js";
import { type Cost, FencedGuilds, publishPlainly } from "./append-clients.js";
import { runOverloaded } from "./append-overload.js";
import { type BenchContext, round, SavedWatch, withStage } from "./stage.js";

export const name = "append";
export const description =
  "mutations into the log and onto two database nodes' disks, beside plain js.publish";
export const aims = {
  fencedToPlainRatio: { atLeast: 3 },
  fencedClientCpuMicros: { atMost: 20 },
  durableToPlainRatio: { atLeast: 1.5 },
};

const guilds = 2_500;
const lanes = 256;

export async function run({ quick, log }: BenchContext): Promise<object> {
  const ms = quick ? 1_000 : 3_000;
  const rounds = quick ? 1 : 2;
  const { plain, fenced } = await logAlone(rounds, ms, log);
  const plainPerSecond = perSecond(plain);
  log("the whole path: one append a mutation, two database nodes saving");
  const durable = await wholePath(ms * 2);
  log("the whole path under overload: the worker's guilds, what waits coalesces");
  const overload = await runOverloaded(guilds, ms * 2);
  return {
    guilds,
    plainPerSecond: Math.round(plainPerSecond),
    plainClientCpuMicros: cpuEach(plain),
    fencedPerSecond: Math.round(perSecond(fenced)),
    fencedClientCpuMicros: cpuEach(fenced),
    fencedToPlainRatio: round(perSecond(fenced) / plainPerSecond),
    durablePerSecond: Math.round(durable.perSecond),
    durableToPlainRatio: round(durable.perSecond / plainPerSecond),
    durableCatchUpMs: Math.round(durable.catchUpMs),
    durableCpuMicros: durable.cpuMicros,
    overload: {
      ...overload,
      toPlainRatio: round(overload.mutationsPerSecond / plainPerSecond),
    },
  };
}

/** In turns, so that neither has the machine's better moments to itself. */
async function logAlone(
  rounds: number,
  ms: number,
  log: BenchContext["log"],
): Promise<{ plain: Cost; fenced: Cost }> {
  return withStage(async (stage) => {
    const plainClient = (await stage.connect("bench plain")).jetstream();
    const guildLog = new GuildLog(await stage.connect("bench fenced"), "bench.fenced");
    const fencedGuilds = new FencedGuilds(guildLog, guilds);
    const plain: Cost = { count: 0, ms: 0, cpuMicros: 0 };
    const fenced: Cost = { count: 0, ms: 0, cpuMicros: 0 };
    log(
      `warm-up, then ${rounds} rounds of ${ms} ms each: js.publish on ${lanes} lanes, ${guilds} fenced guilds`,
    );
    await publishPlainly(plainClient, lanes, 500);
    await fencedGuilds.appendFor(500);
    for (let round = 0; round < rounds; round += 1) {
      add(plain, await publishPlainly(plainClient, lanes, ms));
      await delay(300);
      add(fenced, await fencedGuilds.appendFor(ms));
      await delay(300);
    }
    guildLog.close();
    return { plain, fenced };
  });
}

interface Durable {
  perSecond: number;
  catchUpMs: number;
  /** By process, for each mutation. */
  cpuMicros: { client: number; nats: number; eachNode: number };
}

/** Counts a mutation once both nodes have announced it saved; the catching up afterwards is part of the time. */
async function wholePath(ms: number): Promise<Durable> {
  return withStage(async (stage) => {
    const nodes = await stage.dbnodes();
    const saved = new SavedWatch(await stage.connect("bench saved"), 2);
    const guildLog = new GuildLog(await stage.connect("bench appends"), "bench.path");
    const fencedGuilds = new FencedGuilds(guildLog, guilds);
    await fencedGuilds.appendFor(500);
    await saved.reached(guildLog.lastSeq);
    const cpu = async (): Promise<{ nats: number; nodes: number }> => {
      const each = await Promise.all(nodes.map((node) => node.cpuMicros()));
      const nats = (await cpuMicros(stage.server.pid)) ?? Number.NaN;
      return { nats, nodes: each.reduce((sum, micros) => sum + micros, 0) };
    };
    const before = await cpu();
    const startedAt = performance.now();
    const appended = await fencedGuilds.appendFor(ms);
    const appendedAt = performance.now();
    await saved.reached(guildLog.lastSeq);
    const savedAt = performance.now();
    const after = await cpu();
    guildLog.close();
    return {
      perSecond: (appended.count * 1_000) / (savedAt - startedAt),
      catchUpMs: savedAt - appendedAt,
      cpuMicros: {
        client: cpuEach(appended),
        nats: round((after.nats - before.nats) / appended.count, 1),
        eachNode: round((after.nodes - before.nodes) / appended.count / nodes.length, 1),
      },
    };
  });
}

function add(total: Cost, cost: Cost): void {
  total.count += cost.count;
  total.ms += cost.ms;
  total.cpuMicros += cost.cpuMicros;
}

function perSecond({ count, ms }: Cost): number {
  return (count * 1_000) / ms;
}

function cpuEach({ count, cpuMicros }: Cost): number {
  return round(cpuMicros / count, 1);
}
