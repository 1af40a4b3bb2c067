/** The definitions in streams/: JetStream takes them, and each user of nats-server.conf can do its work and no more. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import test from "ava";
import {
  AckPolicy,
  type ConsumerConfig,
  connect,
  headers,
  type NatsConnection,
  type StreamConfig,
} from "nats";
import { natsVersions, withServer } from "../helpers/nats.js";

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
    const handed = await worker.jetstream().publish("handoff.w2.1", "state");
    t.is(handed.stream, "HANDOFF");
    await manager.consumers.add("HANDOFF", {
      durable_name: "w2",
      filter_subject: "handoff.w2.>",
      ack_policy: AckPolicy.Explicit,
    });
    const moved = await (await worker.jetstream().consumers.get("HANDOFF", "w2")).next({ expires: 2_000 });
    t.true(await moved?.ackAck());

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
