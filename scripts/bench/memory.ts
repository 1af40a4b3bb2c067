/**
 * Resident memory of each process, by the number of guilds, after every guild had its GUILD_CREATE and a message: the
 * worker with the counting bot, two database nodes, nats-server, and a bare consumer on the same simulator.
 */
import { setTimeout as delay } from "node:timers/promises";
import { rssBytes } from "../../src/ops/processes.js";
import type { SimulatorClient } from "../../src/ops/start/simulator-client.js";
import { type BenchContext, round, until, withStage } from "./stage.js";

export const name = "memory";
export const description = "resident memory of each process at 2,500 and 20,000 guilds";
export const aims = { "at20000Guilds.workerToBareRatio": { atMost: 1.6 } };

const seed = 1;
const guildsPerShard = 2_500;
const requestsInFlight = 32;
const MiB = 1024 * 1024;

export async function run({ quick, log }: BenchContext): Promise<object> {
  const figures: Record<string, object | number> = { seed };
  for (const guilds of quick ? [500, 2_500] : [2_500, 20_000]) {
    figures[`at${guilds}Guilds`] = await measure(guilds, log);
  }
  return figures;
}

async function measure(guilds: number, log: BenchContext["log"]): Promise<object> {
  const shards = Math.ceil(guilds / guildsPerShard);
  log(`${guilds} guilds on ${shards} shards, seed ${seed}`);
  return withStage(async (stage) => {
    const [firstNode, secondNode] = await stage.dbnodes();
    const simulator = await stage.simulator(guilds, shards, seed);
    const bare = stage.bareConsumer(simulator, shards);
    const worker = stage.worker("counting", simulator, shards);
    await Promise.all([bare.ready, worker.ready]);
    const list = await stage.list();
    const entry = () => list.workers().get("worker-1");
    // Idle guilds leave memory after a while, so the largest number is what counts.
    let inMemory = 0;
    await until("the worker has had every guild", () => {
      inMemory = Math.max(inMemory, entry()?.guilds ?? 0);
      return inMemory >= guilds;
    });
    log("a message in every guild");
    await messageEveryGuild(simulator);
    await until("everything is appended and saved", () => {
      const own = entry();
      return own !== undefined && own.appended >= guilds && own.queued === 0 && own.dirtyGuilds === 0;
    });
    await delay(3_000);
    const workerBytes = await worker.rssBytes();
    const bareBytes = await bare.rssBytes();
    const megabytes = (bytes: number): number => round(bytes / MiB, 1);
    return {
      guildsInMemory: entry()?.guilds ?? 0,
      bareRssMiB: megabytes(bareBytes),
      workerRssMiB: megabytes(workerBytes),
      firstNodeRssMiB: megabytes(await firstNode!.rssBytes()),
      secondNodeRssMiB: megabytes(await secondNode!.rssBytes()),
      natsRssMiB: megabytes((await rssBytes(stage.server.pid)) ?? 0),
      workerToBareRatio: round(workerBytes / bareBytes),
    };
  });
}

/** Random traffic leaves some guilds out for long; this gives each exactly one message. */
async function messageEveryGuild(simulator: SimulatorClient): Promise<void> {
  const control = `${simulator.apiUrl.replace(/\/api\/?$/, "")}/control`;
  const guilds = (await (await fetch(`${control}/guilds`)).json()) as { id: string }[];
  const ids = guilds.map(({ id }) => id).values();
  const lane = async (): Promise<void> => {
    for (const guildId of ids) {
      const body = JSON.stringify({ guildId, t: "MESSAGE_CREATE" });
      const headers = { "content-type": "application/json" };
      const response = await fetch(`${control}/dispatch`, { method: "POST", headers, body });
      if (!response.ok) throw new Error(`the simulator refused a dispatch: ${await response.text()}`);
      await response.arrayBuffer();
    }
  };
  await Promise.all(Array.from({ length: requestsInFlight }, lane));
}
