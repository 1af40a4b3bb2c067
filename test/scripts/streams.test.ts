/** The definitions in streams/: JetStream takes them, and each user of nats-server.conf can do its work and no more. */
import { execFile, spawn } from "node:child_process";
import { copyFile, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import test from "ava";
import {
  AckPolicy,
  type ConsumerConfig,
  connect,
  headers,
  type NatsConnection,
  type StreamConfig,
} from "nats";
import { pino } from "pino";
import { ClusterList } from "../../src/cluster/list.js";
import { Bucket } from "../../src/nats/bucket.js";
import { connectNats } from "../../src/nats/connect.js";
import { ensureStreams } from "../../src/nats/definitions.js";
import { freePort } from "../../src/nats/embedded-probe.js";
import { resolveServerBinary } from "../../src/nats/server-version.js";
import { readSubject } from "../../src/nats/subject-reader.js";
import { natsVersions, newestNatsVersion, tempDir, withServer } from "../helpers/nats.js";
import { until } from "../helpers/until.js";

const streamsDir = join(process.cwd(), "streams");
const streamFiles = ["guilds.json", "handoff.json", "cluster.json"];

async function definition<Config>(file: string): Promise<Config> {
  return JSON.parse(await readFile(join(streamsDir, file), "utf8")) as Config;
}

async function addStreams(nc: NatsConnection): Promise<void> {
  const manager = await nc.jetstreamManager();
  for (const file of streamFiles) await manager.streams.add(await definition<StreamConfig>(file));
}

for (const version of natsVersions) {
  test(`${version}: the server keeps every field of the definitions`, async (t) => {
    const server = await withServer(t, { version });
    const nc = await connect({ servers: server.url });
    t.teardown(() => nc.close());
    await addStreams(nc);
    const manager = await nc.jetstreamManager();
    for (const file of streamFiles) {
      const wanted = await definition<StreamConfig>(file);
      t.like((await manager.streams.info(wanted.name)).config, wanted as object);
    }
    const consumer = await definition<ConsumerConfig>("dbnode-consumer.json");
    t.like((await manager.consumers.add("GUILDS", consumer)).config, consumer as object);

    // A rollup is how a snapshot replaces a guild's history: deny_purge would refuse it.
    const js = nc.jetstream();
    await js.publish("guild.07.1", "event");
    const rollup = headers();
    rollup.set("Nats-Rollup", "sub");
    await js.publish("guild.07.1", "snapshot", { headers: rollup });
    t.is((await manager.streams.info("GUILDS")).state.messages, 1);
    await t.throwsAsync(manager.streams.deleteMessage("GUILDS", 2));
  });

  test(`${version}: each user can do its work and no more`, async (t) => {
    const conf = await readFile(join(streamsDir, "nats-server.conf"), "utf8");
    const roles = ["setup", "worker", "dbnode", "observer"];
    for (const role of roles) process.env[`NATS_${role.toUpperCase()}_PASSWORD`] = `secret-of-${role}`;
    const server = await withServer(t, { version, extraConfig: conf.slice(conf.indexOf("accounts {")) });
    const as = async (user: string) => {
      const nc = await connect({ servers: server.url, user, pass: `secret-of-${user}`, timeout: 2_000 });
      t.teardown(() => nc.close());
      return nc;
    };
    await t.throwsAsync(connect({ servers: server.url, maxReconnectAttempts: 0 }), {
      message: /authorization/i,
    });
    await addStreams(await as("setup"));
    const [worker, dbnode, observer] = [await as("worker"), await as("dbnode"), await as("observer")];

    await worker.jetstream().publish("guild.07.1", "event");
    const bucket = await worker.jetstream().views.kv("cluster", { bindOnly: true });
    await bucket.put("worker.w1", "here");
    const manager = await worker.jetstreamManager();
    t.is((await manager.streams.getMessage("GUILDS", { last_by_subj: "guild.07.1" })).string(), "event");
    const direct = await worker.request("$JS.API.DIRECT.GET.GUILDS", '{"last_by_subj":"guild.07.1"}');
    t.is(direct.string(), "event");
    const history: string[] = [];
    for await (const { msg } of readSubject(worker, "guild.07.1", 1, 1)) history.push(msg.string());
    t.deepEqual(history, ["event"]);
    const handed = await worker.jetstream().publish("handoff.w2.1", "state");
    t.is(handed.stream, "HANDOFF");
    await manager.consumers.add("HANDOFF", {
      durable_name: "w2",
      filter_subject: "handoff.w2.>",
      ack_policy: AckPolicy.Explicit,
    });
    const moved = await (await worker.jetstream().consumers.get("HANDOFF", "w2")).next({ expires: 2_000 });
    t.true(await moved?.ackAck());

    worker.subscribe("worker.w1.ask", { callback: (_error, message) => void message.respond("yes") });
    await worker.flush();
    t.is((await worker.request("worker.w1.ask", "offer", { timeout: 2_000 })).string(), "yes");
    await (await (await as("setup")).jetstreamManager()).streams.delete("HANDOFF");
    await manager.streams.add(await definition("handoff.json"));
    await t.throwsAsync(manager.streams.add({ name: "another", subjects: ["another"] }), {
      message: /permissions|timeout/i,
    });

    const template = await definition<ConsumerConfig>("dbnode-consumer.json");
    await (await dbnode.jetstreamManager()).consumers.add("GUILDS", {
      ...template,
      durable_name: "dbnode-1",
    });
    const received = await (await dbnode.jetstream().consumers.get("GUILDS", "dbnode-1")).next({
      expires: 2_000,
    });
    t.is(received?.string(), "event");
    t.true(await received?.ackAck());
    const watch = await (await dbnode.jetstream().views.kv("cluster", { bindOnly: true })).watch();
    for await (const entry of watch) {
      t.is(entry.string(), "here");
      break;
    }
    dbnode.subscribe("dbnode.*.get", { callback: (_error, message) => void message.respond("document") });
    await dbnode.flush();
    t.is((await worker.request("dbnode.1.get", "1", { timeout: 2_000 })).string(), "document");

    const seen = await (await observer.jetstream().views.kv("cluster", { bindOnly: true })).get("worker.w1");
    t.is(seen?.string(), "here");
    for (const nc of [worker, dbnode, observer]) {
      const own = await nc.jetstreamManager();
      await t.throwsAsync(own.streams.delete("GUILDS"), { message: /permissions|timeout/i });
      await t.throwsAsync(own.streams.purge("GUILDS"), { message: /permissions|timeout/i });
      await t.throwsAsync(own.streams.update("GUILDS", { max_msgs: 1 }), { message: /permissions|timeout/i });
    }
    await t.throwsAsync(observer.jetstream().publish("guild.07.1", "forged", { timeout: 500 }));
    t.is((await manager.streams.info("GUILDS")).state.messages, 1);
  });
}

test("three servers start from nats-cluster.conf and hold three replicas for the roles' users", async (t) => {
  const { path: binary } = await resolveServerBinary(newestNatsVersion);
  const folder = await tempDir(t);
  const host = "127.0.0.1";
  const names = ["nats-1", "nats-2", "nats-3"];
  const ports = await Promise.all(
    names.map(async () => [await freePort(host), await freePort(host)] as const),
  );
  const env: NodeJS.ProcessEnv = { ...process.env };
  for (const role of ["setup", "worker", "dbnode", "observer"]) {
    env[`NATS_${role.toUpperCase()}_PASSWORD`] = `secret-of-${role}`;
  }
  const routes = ports.map(([, route]) => `"nats://setup:secret-of-setup@${host}:${route}"`);
  env.NATS_ROUTES = `[${routes.join(", ")}]`;
  await promisify(execFile)(binary, ["-c", join(streamsDir, "nats-cluster.conf"), "-t"], {
    env: { ...env, NATS_SERVER_NAME: names[0] },
  });
  // The files as they are; only what three on one machine cannot share is another: the store, and by flags the ports.
  const text = await readFile(join(streamsDir, "nats-cluster.conf"), "utf8");
  await copyFile(join(streamsDir, "nats-server.conf"), join(folder, "nats-server.conf"));
  for (const [index, name] of names.entries()) {
    const [client, route] = ports[index]!;
    const conf = join(folder, `${name}.conf`);
    await writeFile(conf, text.replace("/data/cluster", join(folder, name)));
    const args = ["-c", conf, "-a", host, "-p", `${client}`, "-m", `${await freePort(host)}`];
    args.push("--cluster", `nats://setup:secret-of-setup@${host}:${route}`);
    const child = spawn(binary, args, {
      env: { ...env, NATS_SERVER_NAME: name },
      stdio: "ignore",
    });
    const ended = new Promise((resolve) => child.once("exit", resolve));
    t.teardown(async () => {
      child.kill("SIGKILL");
      await ended;
    });
  }
  const url = ports.map(([client]) => `${host}:${client}`).join(",");
  let setup: NatsConnection | undefined;
  await until("a leader", async () => {
    setup = await connectNats({ url: `nats://setup:secret-of-setup@${url}`, name: "test" }).catch(
      () => undefined,
    );
    return setup !== undefined;
  });
  t.teardown(() => setup!.close());
  await ensureStreams(setup!, { replicas: 3 });
  const worker = await connectNats({ url: `nats://worker:secret-of-worker@${url}`, name: "test" });
  t.teardown(() => worker.close());
  await ensureStreams(worker);
  t.is((await worker.jetstream().publish("guild.07.1", "event")).seq, 1);
  const claimed = await (await Bucket.open(worker)).compareAndSet("shard.0", { owner: "w1" }, 0);
  for (const user of ["worker", "dbnode", "observer"]) {
    const nc = await connectNats({ url: `nats://${user}:secret-of-${user}@${url}`, name: "test" });
    t.teardown(() => nc.close());
    const list = await ClusterList.open(nc, pino({ level: "silent" }));
    t.teardown(() => list.stop());
    t.is(list.revisionOf("shard.0"), claimed!, user);
  }
  const { cluster } = await (await worker.jetstreamManager()).streams.info("GUILDS");
  const members = [cluster!.leader, ...cluster!.replicas!.map((replica) => replica.name)];
  t.deepEqual(members.sort(), names);
});
