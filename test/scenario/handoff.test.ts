/**
 * Shards move between running workers with their guilds in memory: to a worker that joins, from one that leaves.
 */
import test from "ava";
import { auditLog } from "../helpers/audit.js";
import { until, withCluster } from "../helpers/cluster.js";

test("a worker joins and another leaves: their shards move by handoff, guilds and all", async (t) => {
  const cluster = await withCluster(t, {
    shards: 4,
    simulator: { guilds: 400, ratePerSecond: 500 },
  });
  const { simulator, list } = cluster;
  simulator.setTraffic({ running: true });
  await cluster.dispatched(1_000);
  const joined = cluster.join("worker-2");
  await cluster.balanced();
  t.is(list.workers().get("worker-2")?.shards.length, 2);
  await cluster.dispatched(500);
  const [first] = cluster.workers;
  await until("both moves told", () => first!.output.match(/"event":"shard_handed_over"/g)?.length === 2);
  t.is(joined.output.match(/"event":"shard_received"/g)?.length, 2);

  t.is(await first!.end("SIGTERM"), 0);
  await cluster.ready();
  t.is(joined.output.match(/"event":"shard_received"/g)?.length, 4);
  await cluster.dispatched(500);
  await cluster.settled();
  const { lost, duplicated } = await cluster.verdict();
  const audit = await auditLog(cluster.nc);
  t.log(audit);
  t.is(lost + duplicated, 0);
  t.deepEqual(audit.wrong, []);
  t.is(simulator.stats().identifies, 4);
});
