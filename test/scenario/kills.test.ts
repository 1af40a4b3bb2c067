/**
 * The main job under fire: the worker, a database node and nats-server killed in turn under load, each restarted.
 * Afterwards every dispatch is counted exactly once (I1), no session was spent beyond the first boot's, and the
 * database nodes hold the same bytes.
 */
import test from "ava";
import { until, withCluster } from "../helpers/cluster.js";
import { natsVersions } from "../helpers/nats.js";

for (const version of natsVersions) {
  test(`${version}: kill -9 of worker, database node and nats-server: nothing lost, nothing twice`, async (t) => {
    const cluster = await withCluster(t, { version, simulator: { ratePerSecond: 400 } });
    const { simulator } = cluster;
    const [worker, node] = [cluster.workers[0]!, cluster.dbnodes[1]!];
    const dispatched = async (more: number): Promise<void> => {
      const from = simulator.stats().dispatches;
      await until(`${more} more dispatches`, () => simulator.stats().dispatches >= from + more);
    };
    simulator.setTraffic({ running: true });
    await dispatched(800);

    await worker.end("SIGKILL");
    await dispatched(200);
    worker.start();
    await cluster.ready();
    await dispatched(400);

    await node.end("SIGKILL");
    await dispatched(400);
    node.start();
    await cluster.ready();
    await dispatched(200);

    await cluster.server.kill();
    await dispatched(200);
    await cluster.server.restart();
    await dispatched(800);

    await cluster.settled();
    const verdict = await cluster.verdict();
    t.log(verdict);
    t.true(verdict.expected > 2_000);
    t.is(verdict.lost, 0);
    t.is(verdict.duplicated, 0);
    t.is(simulator.stats().identifies, 2, "one IDENTIFY a shard, at the first boot");
    const [first, second] = cluster.checksums();
    t.is(first, second);
    t.is(await worker.end("SIGTERM"), 0);
  });
}
