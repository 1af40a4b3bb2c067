/** The streams on one server and on several: how many replicas they get, who may raise them, what is refused. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { AckPolicy, type NatsConnection, type StreamConfig } from "nats";
import { GuildstreamError } from "../../src/core/errors.js";
import { guildsStream, handoffStream } from "../../src/core/subjects.js";
import { connectNats } from "../../src/nats/connect.js";
import { ensureStreams, packageRoot } from "../../src/nats/definitions.js";
import { compareServerVersions } from "../../src/nats/server-version.js";
import { natsVersions, newestNatsVersion, withServer } from "../helpers/nats.js";
import { withNatsCluster } from "../helpers/nats-cluster.js";
import { until } from "../helpers/until.js";

const streams = [guildsStream, handoffStream, "KV_cluster"];
const tooOld = natsVersions.filter((version) => compareServerVersions(version, "2.11.0") < 0);

async function connected(t: ExecutionContext, url: string, user?: string): Promise<NatsConnection> {
  const credentials = user === undefined ? {} : { user, password: `secret-of-${user}` };
  const nc = await connectNats({ url, name: "test", ...credentials });
  t.teardown(() => nc.close());
  return nc;
}

async function configs(nc: NatsConnection): Promise<StreamConfig[]> {
  const manager = await nc.jetstreamManager();
  return Promise.all(streams.map(async (name) => (await manager.streams.info(name)).config));
}

async function refused(t: ExecutionContext, running: Promise<void>): Promise<GuildstreamError> {
  return (await t.throwsAsync(running, { instanceOf: GuildstreamError }))!;
}

test("a single server: one replica, and three are refused with what to do", async (t) => {
  const nc = await connected(t, (await withServer(t)).url);
  const error = await refused(t, ensureStreams(nc, { replicas: 3 }));
  t.is(error.code, "STREAM_FAILED");
  t.regex(error.message, /GUILDS.*non-clustered/);
  t.regex(error.hint!, /cluster of at least 3 nats-servers/);
  await ensureStreams(nc);
  t.deepEqual(
    (await configs(nc)).map((config) => config.num_replicas),
    [1, 1, 1],
  );
  t.regex((await refused(t, ensureStreams(nc, { replicas: 3 }))).message, /GUILDS has 1 of 3 replicas/);
});

test("three servers: raised when asked, with every other setting kept, and never lowered", async (t) => {
  const cluster = await withNatsCluster(t);
  const nc = await connected(t, cluster.url);
  await ensureStreams(nc);
  const manager = await nc.jetstreamManager();
  await manager.streams.update(guildsStream, { max_bytes: 50_000_000, description: "the operator's own" });
  await manager.consumers.add(guildsStream, { durable_name: "node", ack_policy: AckPolicy.All });
  const before = await configs(nc);
  for (let n = 1; n <= 20; n += 1) await nc.jetstream().publish(`guild.07.${n}`, "event");

  await ensureStreams(nc, { replicas: 3 });
  t.deepEqual(
    await configs(nc),
    before.map((config) => ({ ...config, num_replicas: 3 })),
  );
  await cluster.current();
  const info = await manager.streams.info(guildsStream);
  t.is(info.state.messages, 20);
  t.is(info.cluster?.replicas?.length, 2);
  await until("the consumer follows", async () => {
    const consumer = await manager.consumers.info(guildsStream, "node");
    return consumer.config.num_replicas === 0 && consumer.cluster?.replicas?.length === 2;
  });

  for (const replicas of [undefined, 1, 3]) await ensureStreams(nc, { replicas });
  t.deepEqual(
    (await configs(nc)).map((config) => config.num_replicas),
    [3, 3, 3],
  );
  const error = await refused(t, ensureStreams(nc, { replicas: 5 }));
  t.regex(error.message, /GUILDS has 3 of 5 replicas/);
  t.regex(error.hint!, /cluster of at least 5 nats-servers/);
});

test("a user who may not raise them is told who may", async (t) => {
  const conf = await readFile(join(packageRoot(), "streams", "nats-server.conf"), "utf8");
  const roles = ["setup", "worker", "dbnode", "observer"];
  for (const role of roles) process.env[`NATS_${role.toUpperCase()}_PASSWORD`] = `secret-of-${role}`;
  const extraConfig = conf.slice(conf.indexOf("accounts {"));
  const cluster = await withNatsCluster(t, { extraConfig, user: "setup", pass: "secret-of-setup" });
  const setup = await connected(t, cluster.url, "setup");
  await ensureStreams(setup);
  const worker = await connected(t, cluster.url, "worker");
  await ensureStreams(worker);
  const error = await refused(t, ensureStreams(worker, { replicas: 3 }));
  t.is(error.code, "STREAM_FAILED");
  t.regex(error.hint!, /guildstream status --replicas 3.*setup.*nats stream edit GUILDS --replicas 3/);
  await ensureStreams(setup, { replicas: 3 });
  await ensureStreams(worker, { replicas: 3 });
  t.deepEqual(
    (await configs(worker)).map((config) => config.num_replicas),
    [3, 3, 3],
  );
});

for (const version of tooOld) {
  test(`${version} holds no replicas: refused by name, also as one of a cluster`, async (t) => {
    const alone = await withServer(t, { version });
    const error = await refused(t, ensureStreams(await connected(t, alone.url), { replicas: 3 }));
    t.is(error.code, "NATS_SERVER_TOO_OLD");
    t.is(error.message, `3 replicas need nats-server 2.11 or newer; ${alone.name} is ${version}`);

    const cluster = await withNatsCluster(t, { versions: [newestNatsVersion, newestNatsVersion, version] });
    const [first, , old] = cluster.servers;
    const nc = await connected(t, first!.url);
    t.is(nc.info!.version, newestNatsVersion);
    const mixed = await refused(t, ensureStreams(nc, { replicas: 3 }));
    t.is(mixed.message, `3 replicas need nats-server 2.11 or newer; ${old!.name} is ${version}`);
    await ensureStreams(nc);
  });
}
