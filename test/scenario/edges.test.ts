/**
 * Moments that the long story (kills.test.ts) does not hit by itself: a worker killed the instant it said ready, and
 * a list-server that falls silent while two workers watch each other through it.
 */
import test from "ava";
import { until, withCluster } from "../helpers/cluster.js";

test("a worker killed as soon as it is ready: its sessions are RESUMEd, nothing is lost", async (t) => {
  const cluster = await withCluster(t, { simulator: { ratePerSecond: 300 } });
  const { simulator } = cluster;
  const worker = cluster.workers[0]!;
  await worker.end("SIGKILL");
  simulator.setTraffic({ running: true });
  await until("100 dispatches", () => simulator.stats().dispatches >= 100);
  worker.start();
  await cluster.ready();
  await cluster.settled();
  const verdict = await cluster.verdict();
  t.true(verdict.expected >= 100);
  t.is(verdict.lost + verdict.duplicated, 0);
  t.is(simulator.stats().identifies, 2);
});

test("nats-server away for a while: neither worker takes the other for dead", async (t) => {
  const cluster = await withCluster(t, { workers: 2, simulator: { ratePerSecond: 300 } });
  const { simulator } = cluster;
  simulator.setTraffic({ running: true });
  await cluster.balanced();
  await until("300 dispatches", () => simulator.stats().dispatches >= 300);
  const owners = [0, 1].map((shard) => cluster.list.shard(shard)?.owner);
  t.deepEqual([...owners].sort(), ["worker-1", "worker-2"]);
  const { resumes } = simulator.stats();
  await cluster.server.kill();
  await until("600 dispatches", () => simulator.stats().dispatches >= 600);
  await cluster.server.restart();
  await until("heartbeats of both again", () => {
    const at = [...cluster.list.workers().values()].map((worker) => worker.dispatches);
    return at.reduce((sum, dispatches) => sum + dispatches, 0) >= 600;
  });
  await cluster.settled();
  const verdict = await cluster.verdict();
  t.is(verdict.lost + verdict.duplicated, 0);
  t.deepEqual(
    [0, 1].map((shard) => cluster.list.shard(shard)?.owner),
    owners,
  );
  t.is(simulator.stats().resumes, resumes, "no shard has moved");
});
