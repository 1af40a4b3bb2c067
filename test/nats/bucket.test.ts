/** Stories of the list-server's bucket: a watch that outlives its consumer, its server and its bucket. */
import test, { type ExecutionContext } from "ava";
import { clusterBucket } from "../../src/core/subjects.js";
import { Bucket } from "../../src/nats/bucket.js";
import { type BucketEntry, BucketWatch } from "../../src/nats/bucket-watch.js";
import { connectNats, type NatsConnection } from "../../src/nats/connect.js";
import { ensureStreams } from "../../src/nats/definitions.js";
import { natsVersions, withServer } from "../helpers/nats.js";
import { withNatsCluster } from "../helpers/nats-cluster.js";
import { until } from "../helpers/until.js";

const stream = `KV_${clusterBucket}`;

/** Everything a watch tells, as it comes. */
async function watch(t: ExecutionContext, nc: NatsConnection): Promise<BucketEntry[]> {
  const told: BucketEntry[] = [];
  const bucketWatch = new BucketWatch({
    nc,
    prepare: async () => {},
    onEntry: (entry) => told.push(entry),
    onRenewed: () => told.push({ key: "renewed", value: undefined, revision: 0 }),
    onTrouble: () => {},
  });
  t.teardown(() => bucketWatch.stop());
  await bucketWatch.start();
  return told;
}

async function put(bucket: Bucket, key: string, value: unknown): Promise<void> {
  const before = (await bucket.get(key))?.revision ?? 0;
  if ((await bucket.compareAndSet(key, value, before)) === undefined) await put(bucket, key, value);
}

for (const version of natsVersions) {
  test(`${version}: a watch tells each revision once, also when its consumer is lost`, async (t) => {
    const server = await withServer(t, { version });
    const nc = await connectNats({ url: server.url, name: "test" });
    t.teardown(() => nc.close());
    await ensureStreams(nc);
    const bucket = await Bucket.open(nc);
    await put(bucket, "a", 1);
    await put(bucket, "b", { n: 1 });
    await put(bucket, "b", { n: 2 });
    await nc.jetstream().publish(`$KV.${clusterBucket}.c`, "no JSON");
    const told = await watch(t, nc);
    t.deepEqual(told, [
      { key: "a", value: 1, revision: 1 },
      { key: "b", value: { n: 2 }, revision: 3 },
      { key: "c", value: undefined, revision: 4 },
    ]);
    const manager = await nc.jetstreamManager();
    const [consumer] = await manager.consumers.list(stream).next();
    await manager.consumers.delete(stream, consumer!.name);
    await put(bucket, "a", 2);
    await bucket.delete("b", (await bucket.get("b"))!.revision);
    await until("told after the loss", () => told.length >= 5);
    await put(bucket, "a", 3);
    await until("told at once", () => told.length >= 6);
    t.deepEqual(told.slice(3), [
      { key: "a", value: 2, revision: 5 },
      { key: "b", value: undefined, revision: 6 },
      { key: "a", value: 3, revision: 7 },
    ]);
  });
}

test("a bucket made anew is told of, then what it has", async (t) => {
  const server = await withServer(t);
  const nc = await connectNats({ url: server.url, name: "test" });
  t.teardown(() => nc.close());
  await ensureStreams(nc);
  const bucket = await Bucket.open(nc);
  await put(bucket, "a", 1);
  await put(bucket, "a", 2);
  const told = await watch(t, nc);
  await (await nc.jetstreamManager()).streams.delete(stream);
  await ensureStreams(nc);
  await put(bucket, "b", 1);
  await until("told anew", () => told.some((entry) => entry.key === "b"));
  t.deepEqual(told, [
    { key: "a", value: 2, revision: 2 },
    { key: "renewed", value: undefined, revision: 0 },
    { key: "b", value: 1, revision: 1 },
  ]);
});

test("three replicas: the servers die in turn, the watch goes on", async (t) => {
  const cluster = await withNatsCluster(t);
  const nc = await connectNats({ url: cluster.url, name: "test" });
  t.teardown(() => nc.close());
  await ensureStreams(nc, { replicas: 3 });
  const bucket = await Bucket.open(nc);
  const entries = await watch(t, nc);
  let last = 0;
  for (const server of cluster.servers) {
    await server.kill();
    await until("a put that is acknowledged", async () => {
      last += 1;
      return put(bucket, "n", last).then(
        () => true,
        () => false,
      );
    });
    await until("told", () => entries.at(-1)?.value === last, 30_000);
    await server.restart();
    await cluster.current();
  }
  const told = entries.map((entry) => entry.value as number);
  t.deepEqual(
    told,
    [...told].sort((a, b) => a - b),
    "never back",
  );
  t.is(new Set(told).size, told.length, "never twice");
});
