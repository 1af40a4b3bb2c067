/**
 * No database node at all under load: the worker goes on in memory, says so, leaves the gateway when its memory is
 * full, and comes back to it when a node has saved what it holds. Nothing is lost, nothing handled twice.
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import test from "ava";
import { limits } from "../../src/core/limits.js";
import { packageRoot } from "../../src/nats/definitions.js";
import { until, withCluster } from "../helpers/cluster.js";
import { tempDir } from "../helpers/nats.js";

const memoryMb = 16;
const fillerBytes = 60_000;

/** Counts like the built-in bot; a guild in which something has happened is large. */
const fatBot = `
import counting from ${JSON.stringify(join(packageRoot(), "build/src/bots/counting.js"))};
export default {
  ...counting,
  onAny(context) {
    counting.onAny(context);
    if (Object.keys(context.state.counts).length > 0) context.state.filler ??= "x".repeat(${fillerBytes});
  },
};
`;

interface MemoryFull {
  heldBytes: number;
  budgetBytes: number;
}

test("no database node and a full memory: the shards pause, and RESUME when a node is back", async (t) => {
  const bot = join(await tempDir(t), "fat.mjs");
  await writeFile(bot, fatBot);
  const cluster = await withCluster(t, { bot, memoryMb, simulator: { ratePerSecond: 200 } });
  const { simulator } = cluster;
  const worker = () => cluster.list.workers().get("worker-1")!;
  const lines = (event: string): MemoryFull[] =>
    cluster.workers[0]!.output.split("\n")
      .filter((line) => line.includes(`"event":"${event}"`))
      .map((line) => JSON.parse(line) as MemoryFull);

  await Promise.all(cluster.dbnodes.map((node) => node.end("SIGKILL")));
  simulator.setTraffic({ running: true });
  await until("handled without a node", () => worker().handled > 50);
  await until("memory full", () => worker().backpressure);
  await until("said so", () => lines("memory_full").length > 0 && lines("dbnodes_gone").length > 0);
  await until("its entry says it too", () => worker().savedBy === 0);
  const guildBytes = fillerBytes * 4;
  const { heldBytes, budgetBytes } = lines("memory_full")[0]!;
  t.is(budgetBytes, memoryMb * 1024 * 1024);
  t.true(heldBytes > budgetBytes && heldBytes < budgetBytes + limits.guildLoadsInFlightMax * guildBytes);

  await until("off the gateway", () => simulator.stats().sessions.every((session) => !session.connected));
  // Its entry may be older than its going off.
  const beats = cluster.list.beatsOf("worker.worker-1");
  await until("its word of now", () => cluster.list.beatsOf("worker.worker-1") >= beats + 2);
  const { dispatches } = worker();
  const from = simulator.stats().dispatches;
  await until("Discord keeps 400 dispatches", () => simulator.stats().dispatches >= from + 400);
  t.is(worker().dispatches, dispatches, "nothing was taken meanwhile");

  cluster.dbnodes[0]!.start();
  await until("a node is back", () => worker().savedBy === 1);
  await until("room again", () => !worker().backpressure && simulator.stats().resumes >= 1);
  cluster.dbnodes[1]!.start();
  await cluster.ready();
  await cluster.settled();
  await until("said once", () => lines("dbnodes_back").length === 1);
  const verdict = await cluster.verdict();
  t.log({ ...verdict, resumes: simulator.stats().resumes, heldBytes });
  t.true(verdict.expected > 500);
  t.is(verdict.lost, 0);
  t.is(verdict.duplicated, 0);
  t.is(simulator.stats().identifies, 2, "one IDENTIFY a shard, at the first boot");
  const [first, second] = cluster.checksums();
  t.is(first, second);
});
