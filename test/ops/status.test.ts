/** The operator's one look: what it says of the servers that hold the log. */
import test from "ava";
import { pino } from "pino";
import { ClusterList } from "../../src/cluster/list.js";
import { guildsStream } from "../../src/core/subjects.js";
import { connectNats } from "../../src/nats/connect.js";
import { ensureStreams } from "../../src/nats/definitions.js";
import { Heartbeats } from "../../src/ops/heartbeats.js";
import { type ClusterStatus, readStatus } from "../../src/ops/status.js";
import { renderStatus } from "../../src/ops/view/status-frame.js";
import { withServer } from "../helpers/nats.js";
import { withNatsCluster } from "../helpers/nats-cluster.js";
import { until } from "../helpers/until.js";

const log = pino({ level: "silent" });

function shown(status: ClusterStatus): string {
  return renderStatus(status, { columns: 200 }).join("\n");
}

test("a single server is not worth a word", async (t) => {
  const nc = await connectNats({ url: (await withServer(t)).url, name: "test" });
  t.teardown(() => nc.close());
  await ensureStreams(nc);
  const list = await ClusterList.open(nc, log);
  t.teardown(() => list.stop());
  const status = await readStatus(nc, list, new Heartbeats(list, 0));
  t.like(status.log, { replicas: 1, behind: [] });
  t.notRegex(shown(status), /replica/i);
});

test("three replicas are named, and the one that is missing", async (t) => {
  const cluster = await withNatsCluster(t);
  const nc = await connectNats({ url: cluster.url, name: "test" });
  t.teardown(() => nc.close());
  await ensureStreams(nc, { replicas: 3 });
  await cluster.current();
  const list = await ClusterList.open(nc, log);
  t.teardown(() => list.stop());
  const heartbeats = new Heartbeats(list, 0);
  t.regex(shown(await readStatus(nc, list, heartbeats)), /up to 0 {3}3 replicas$/m);
  const leader = await cluster.leaderOf(guildsStream);
  const follower = cluster.servers.find((server) => server !== leader)!;
  await follower.kill();
  await until("the missing one is named", async () => {
    const status = await readStatus(nc, list, heartbeats).catch(() => undefined);
    return status !== undefined && shown(status).includes(`REPLICAS BEHIND: ${follower.name} has not all`);
  });
  t.pass();
});
