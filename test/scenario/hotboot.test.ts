/**
 * New code under load: the running worker hands everything to its successor, and nobody notices.
 */
import test from "ava";
import { auditLog } from "../helpers/audit.js";
import { type Cluster, until, withCluster } from "../helpers/cluster.js";

/** Signals the launcher and waits until another incarnation serves; the last progress of the parent. */
async function hotboot(cluster: Cluster): Promise<void> {
  const before = cluster.list.workers().get("worker-1")!.incarnation;
  cluster.workers[0]!.signal("SIGUSR2");
  await until("the successor serves", () => {
    const now = cluster.list.workers().get("worker-1");
    return now !== undefined && now.incarnation !== before && now.status === "ready";
  });
}

test("a hotboot under load: nothing lost, nothing twice, no late answer, no session spent", async (t) => {
  const cluster = await withCluster(t, {
    launcher: true,
    shards: 2,
    simulator: { guilds: 500, ratePerSecond: 500 },
  });
  const { simulator } = cluster;
  simulator.setTraffic({ running: true });
  await cluster.dispatched(1_500);
  const startedAt = performance.now();
  await hotboot(cluster);
  t.log(`deployed in ${Math.round(performance.now() - startedAt)} ms`);
  await cluster.ready();
  await cluster.dispatched(500);
  await cluster.settled();
  const { lost, duplicated, expected } = await cluster.verdict();
  const audit = await auditLog(cluster.nc);
  const { answers, identifies } = simulator.stats();
  t.log({ expected, ...audit, answers });
  t.is(lost + duplicated, 0);
  t.deepEqual(audit.wrong, []);
  t.is(answers.late + answers.never, 0);
  t.is(identifies, 2);
  const summary = cluster.workers[0]!.output.split("\n").find((line) => line.includes('"hotboot_done"'));
  t.log(summary);
  t.is(await cluster.workers[0]!.end("SIGTERM"), 0);
});
