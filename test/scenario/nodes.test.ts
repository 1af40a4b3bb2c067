/**
 * Database nodes that die, freeze and come back under load: guilds are clean once the live ones have saved them, a node
 * that is back counts again, and in the end all hold the same. Nothing is lost, nothing handled twice.
 */
import test, { type ExecutionContext } from "ava";
import type { WorkerEntry } from "../../src/core/members.js";
import { type Cluster, until, withCluster } from "../helpers/cluster.js";

function worker(cluster: Cluster): WorkerEntry {
  return cluster.list.workers().get("worker-1")!;
}

async function dispatched(cluster: Cluster, more: number): Promise<void> {
  const from = cluster.simulator.stats().dispatches;
  await until(`${more} more dispatches`, () => cluster.simulator.stats().dispatches >= from + more);
}

/** Everything handled so far is saved by the nodes that are there; the traffic goes on afterwards. */
async function drained(cluster: Cluster): Promise<void> {
  cluster.simulator.setTraffic({ running: false });
  await until("all guilds clean", () => {
    const { dispatches } = cluster.simulator.stats();
    const { dispatches: received, dirtyGuilds, queued } = worker(cluster);
    return received >= dispatches && queued === 0 && dirtyGuilds === 0;
  });
  cluster.simulator.setTraffic({ running: true });
}

async function finish(t: ExecutionContext, cluster: Cluster): Promise<void> {
  await cluster.settled();
  const verdict = await cluster.verdict();
  t.log(verdict);
  t.true(verdict.expected > 500);
  t.is(verdict.lost, 0);
  t.is(verdict.duplicated, 0);
  t.is(cluster.simulator.stats().identifies, 2, "one IDENTIFY a shard, at the first boot");
  const [first, second] = cluster.checksums();
  t.is(first, second);
}

for (const away of ["killed", "frozen"] as const) {
  test(`a database node is ${away} under load: guilds drain by the other, it catches up and counts again`, async (t) => {
    const cluster = await withCluster(t, { simulator: { ratePerSecond: 300 } });
    const node = cluster.dbnodes[1]!;
    cluster.simulator.setTraffic({ running: true });
    await dispatched(cluster, 300);
    await until("both count", () => worker(cluster).savedBy === 2);
    if (away === "killed") await node.end("SIGKILL");
    else node.signal("SIGSTOP");
    await dispatched(cluster, 300);
    await until("it no longer counts", () => worker(cluster).savedBy === 1);
    await drained(cluster);
    const { saved } = cluster.list.dbnodes().get("db-2")!;
    t.true(saved < cluster.list.dbnodes().get("db-1")!.saved, "db-2 has not saved what is clean");
    if (away === "killed") node.start();
    else node.signal("SIGCONT");
    await until("it counts again", () => worker(cluster).savedBy === 2);
    await dispatched(cluster, 300);
    await drained(cluster);
    await finish(t, cluster);
  });
}
