/** What a stream with replicas says of itself when some of its servers are gone, and what we make of it. */
import { randomBytes } from "node:crypto";
import { cp, rm } from "node:fs/promises";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { connect } from "nats";
import { guildsStream } from "../../src/core/subjects.js";
import { connectNats, type NatsConnection } from "../../src/nats/connect.js";
import { ensureStreams } from "../../src/nats/definitions.js";
import { type StreamInfo, streamInfo, streamInfoInTime } from "../../src/nats/stream-info.js";
import { type NatsCluster, withNatsCluster } from "../helpers/nats-cluster.js";
import { until } from "../helpers/until.js";

async function stage(t: ExecutionContext): Promise<{ cluster: NatsCluster; nc: NatsConnection }> {
  const cluster = await withNatsCluster(t);
  const nc = await connectNats({ url: cluster.url, name: "test" });
  t.teardown(() => nc.close());
  await ensureStreams(nc, { replicas: 3 });
  return { cluster, nc };
}

/** Much more than sockets hold, and not to be compressed: what is published while a server sleeps is missing there. */
const large = randomBytes(1_000_000).toString("latin1");

async function publish(nc: NatsConnection, from: number, to: number, body = "event"): Promise<void> {
  for (let n = from; n <= to; n += 1) {
    const { seq } = await nc.jetstream().publish(`guild.07.${n}`, body);
    if (seq !== n) throw new Error(`sequence ${seq}, not ${n}`);
  }
}

test("a replica that slept and is alone answers with what it has: it is not believed", async (t) => {
  const { cluster, nc } = await stage(t);
  await publish(nc, 1, 10);
  const known = await streamInfo(nc);
  t.like(known, { lastSeq: 10, replicas: 3 });
  const leader = await cluster.leaderOf(guildsStream);
  const sleeper = cluster.servers.find((server) => server !== leader && !server.url.endsWith(nc.getServer()));
  const others = cluster.servers.filter((server) => server !== sleeper);
  process.kill(sleeper!.pid, "SIGSTOP");
  await publish(nc, 11, 40, large);
  for (const server of others) await server.kill();
  process.kill(sleeper!.pid, "SIGCONT");

  // What nats-server really does: without a leader any replica answers.
  const alone = await connect({ servers: sleeper!.url });
  t.teardown(() => alone.close());
  let lastSeq: number | undefined;
  await until("the replica speaks for itself", async () => {
    const msg = await alone
      .request(`$JS.API.STREAM.INFO.${guildsStream}`, "", { timeout: 500 })
      .catch(() => {});
    lastSeq = msg?.json<{ state?: { last_seq: number } }>().state?.last_seq;
    return lastSeq !== undefined;
  });
  t.true(lastSeq! < 40, `it lacks the end: ${lastSeq}`);
  await t.throwsAsync(streamInfo(alone), { message: /has no leader/ });
  let answer: StreamInfo | undefined;
  const told: string[] = [];
  const asking = streamInfoInTime({
    nc: alone,
    known: { created: known.created, lastSeq: 40 },
    isStopped: () => false,
    onTrouble: (_, message) => told.push(message),
  }).then((info) => {
    answer = info;
  });
  await until("asked", () => told.length > 0);
  t.is(answer, undefined);
  for (const server of others) await server.restart();
  await asking;
  t.like(answer, { created: known.created, lastSeq: 40, replicas: 3 });
});

test("three replicas that all lost their end: believed, but only once it has held", async (t) => {
  const { cluster, nc } = await stage(t);
  await publish(nc, 1, 10);
  await cluster.current();
  const known = { created: (await streamInfo(nc)).created, lastSeq: 20 };
  const stopAll = () => Promise.all(cluster.servers.map((server) => server.kill()));
  const startAll = () => Promise.all(cluster.servers.map((server) => server.restart()));
  await stopAll();
  const copies = cluster.servers.map(
    ({ dataDir }) => [join(dataDir, "jetstream"), join(dataDir, "copy")] as const,
  );
  for (const [store, copy] of copies) await cp(store, copy, { recursive: true });
  await startAll();
  await until("led again", async () => (await cluster.leaderOf(guildsStream)) !== undefined);
  await publish(nc, 11, 20);
  await stopAll();
  for (const [store, copy] of copies) {
    await rm(store, { recursive: true });
    await cp(copy, store, { recursive: true });
  }
  await startAll();

  const told: string[] = [];
  let doubtedAt = 0;
  const confirmMs = 1_500;
  const info = await streamInfoInTime({
    nc,
    known,
    isStopped: () => false,
    onTrouble: (_, message) => {
      told.push(message);
      if (/lost its end/.test(message)) doubtedAt = performance.now();
    },
    confirmMs,
  });
  t.like(info, { created: known.created, lastSeq: 10 });
  t.true(doubtedAt > 0 && performance.now() - doubtedAt >= confirmMs);
  t.is(told.filter((message) => /lost its end/.test(message)).length, 1);
});
