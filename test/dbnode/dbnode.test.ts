/** Stories of the database node on a real nats-server and a real disk. */
import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import test from "ava";
import type { SavedAnnouncement } from "../../src/core/members.js";
import { guildSubject } from "../../src/core/subjects.js";
import { openStore } from "../../src/disk/store.js";
import { natsVersions } from "../helpers/nats.js";
import { guildIds, Harness, stateOf, until } from "./harness.js";

const nodeProcess = fileURLToPath(new URL("./node-process.js", import.meta.url));
const [guild, other] = guildIds as [string, string];

for (const version of natsVersions) {
  test(`${version}: what is published is folded, saved, announced and served`, async (t) => {
    const harness = await Harness.open(t, version);
    const announced: SavedAnnouncement[] = [];
    harness.nc.subscribe("dbnode.a.saved", {
      callback: (_, msg) => announced.push(JSON.parse(Buffer.from(msg.data).toString())),
    });
    const node = await harness.node("a");
    let last = 0;
    for (let round = 0; round < 5; round += 1) {
      for (const guildId of guildIds) last = await harness.event(guildId);
    }
    await until("announced", () => announced.at(-1)?.saved === last);
    t.like(announced.at(-1), { id: "a", saved: last, streamCreated: node.status().streamCreated });
    t.like(node.status(), { received: last, saved: last, streamLast: last, guilds: 40, quarantined: 0 });
    const reply = await harness.get("a", guild, last);
    t.deepEqual(stateOf(reply), { count: 5, guildId: guild });
    t.like(reply, { document: { rev: 5, epoch: 1, by: "w", cursor: { session: "abc", s: 5 } } });
    const consumer = await (await harness.nc.jetstreamManager()).consumers.info("GUILDS", "dbnode-a");
    t.is(consumer.config.max_deliver, -1);
    t.is(`${consumer.config.ack_policy}`, "all");
  });

  test(`${version}: two nodes agree byte for byte, one of them restarted and with next to no cache`, async (t) => {
    const harness = await Harness.open(t, version);
    const a = await harness.node("a");
    let b = await harness.node("b", { cacheBytes: 1 });
    let last = 0;
    for (let round = 0; round < 6; round += 1) {
      for (const guildId of guildIds) last = await harness.event(guildId);
      if (round === 3) {
        await b.stop();
        b = await harness.node("b", { cacheBytes: 1 });
      }
    }
    last = await harness.tombstone(guildIds[7]!, 7);
    await until("saved", () => a.status().saved === last && b.status().saved === last);
    t.is(a.status().checksum, b.status().checksum);
    t.is(a.status().guilds, 39);
    t.is(b.status().guilds, 39);
    await Promise.all([a.stop(), b.stop()]);
    const [left, right] = await Promise.all([
      openStore(harness.dataDir("a")),
      openStore(harness.dataDir("b")),
    ]);
    t.deepEqual([...left.readAll()], [...right.readAll()]);
    t.is([...left.readAll()].length, 40);
    await Promise.all([left.close(), right.close()]);
  });
}

test("garbage is quarantined with its sequence and reason, and breaks nothing", async (t) => {
  const harness = await Harness.open(t);
  const node = await harness.node("a");
  const subject = guildSubject(guild);
  await harness.event(guild);
  const v = { v: 1, rev: 2, epoch: 1, by: "w", at: 1, cause: { shard: 0, session: "s", s: 1, t: "X" } };
  const garbage: [seq: number, reason: RegExp][] = [
    [await harness.raw(subject, "event", "{"), /not JSON/],
    [await harness.raw(subject, undefined, "hello"), /no Guildstream-Kind/],
    [await harness.raw(subject, "event", JSON.stringify({ ...v, v: 9, ops: [] })), /unknown version 9/],
    [
      await harness.raw(
        subject,
        "event",
        JSON.stringify({ ...v, ops: [{ op: "add", path: "/__proto__/x", value: 1 }] }),
      ),
      /refused pointer/,
    ],
    [await harness.raw("guild.99.1", "event", "{}"), /not a guild's subject/],
    [await harness.raw(subject.replace(/\.\d\d\./, ".64."), "event", "{}"), /not a guild's subject/],
    [await harness.raw(subject, "event", JSON.stringify({ ...v, rev: 1, ops: [] })), /revision 1 again/],
    [await harness.raw(subject, "event", JSON.stringify({ ...v, epoch: 0, ops: [] })), /epoch fell/],
    [await harness.raw(subject, "event", ""), /not JSON/],
  ];
  const last = await harness.event(guild, { rev: 2 });
  await until("saved", () => node.status().saved === last);
  t.is(node.status().quarantined, garbage.length);
  const list = node.quarantineList();
  t.deepEqual(
    list.map(({ seq }) => seq),
    garbage.map(([seq]) => seq),
  );
  for (const [index, [, reason]] of garbage.entries()) t.regex(list[index]!.reason, reason);
  t.deepEqual(stateOf(await harness.get("a", guild, last)), { count: 2, guildId: guild });
});

test("a gap and a failing patch break only their guild, until a snapshot repairs it", async (t) => {
  const harness = await Harness.open(t);
  let node = await harness.node("a");
  const [gapped, patched, whole] = guildIds as [string, string, string];
  for (const guildId of [gapped, patched, whole]) await harness.event(guildId);
  await harness.event(gapped, { rev: 3 });
  await harness.event(patched, { ops: [{ op: "remove", path: "/nothing/here" }] });
  await harness.event(whole);
  let last = await harness.event(gapped);
  for (const restart of [false, true]) {
    if (restart) {
      await node.stop();
      node = await harness.node("a");
    }
    t.like(await harness.get("a", gapped, last), {
      outcome: "quarantined",
      reason: "gap: revision 3 after 1",
    });
    const reply = await harness.get("a", patched, last);
    t.regex(reply.outcome === "quarantined" ? reply.reason : reply.outcome, /^patch failed/);
    t.deepEqual(stateOf(await harness.get("a", whole, last)), { count: 2, guildId: whole });
    t.is(node.status().quarantined, 3);
  }
  await harness.snapshot(gapped, 4, { count: 4, repaired: true });
  await harness.snapshot(patched, 2, { count: 2, repaired: true });
  last = await harness.event(gapped);
  t.deepEqual(stateOf(await harness.get("a", gapped, last)), { count: 5, repaired: true });
  t.deepEqual(stateOf(await harness.get("a", patched, last)), { count: 2, repaired: true });
  await until("saved", () => node.status().saved === last);
  t.is(node.status().quarantined, 3);
});

test("a restarted node goes on from its own watermark: nothing is applied twice, nothing read again", async (t) => {
  const harness = await Harness.open(t);
  let node = await harness.node("a");
  // Appending to a list shows every apply; a second one would be seen.
  await harness.event(guild, { ops: [{ op: "replace", path: "", value: { list: [] } }] });
  let last = 0;
  const total = 60;
  for (let rev = 2; rev <= total; rev += 1) {
    last = await harness.event(guild, { ops: [{ op: "add", path: "/list/-", value: rev }] });
    if (rev % 20 === 0) {
      await node.stop();
      const { saved } = node.status();
      node = await harness.node("a");
      t.is(node.status().saved, saved);
      t.is(node.status().received, saved);
      const consumer = await (await harness.nc.jetstreamManager()).consumers.info("GUILDS", "dbnode-a");
      t.is(consumer.config.opt_start_seq, saved + 1);
    }
  }
  const state = stateOf(await harness.get("a", guild, last)) as { list: number[] };
  t.deepEqual(
    state.list,
    Array.from({ length: total - 1 }, (_, index) => index + 2),
  );
  await until("saved", () => node.status().saved === last);
  t.is(node.status().quarantined, 0);
});

test("a stream that was made anew is noticed, running or stopped", async (t) => {
  const harness = await Harness.open(t);
  const manager = await harness.nc.jetstreamManager();
  let node = await harness.node("a");
  for (const stopped of [false, true]) {
    for (const guildId of guildIds) await harness.event(guildId, { rev: 1 });
    await until("saved", () => node.status().saved === 40);
    if (stopped) await node.stop();
    const { config, created } = await manager.streams.info("GUILDS");
    await manager.streams.delete("GUILDS");
    await manager.streams.add(config);
    const last = await harness.event(other, {
      rev: 1,
      ops: [{ op: "add", path: "", value: { fresh: stopped } }],
    });
    if (stopped) node = await harness.node("a");
    await until(
      "started over",
      () => node.status().saved === last && node.status().streamCreated !== created,
    );
    t.is(node.status().guilds, 1);
    t.deepEqual(stateOf(await harness.get("a", other, last)), { fresh: stopped });
    t.like(await harness.get("a", guild, 0), { outcome: "unknown" });
    t.true(
      harness.logged.some(({ level, fields }) => level === "error" && /made anew/.test(`${fields.reason}`)),
    );
    harness.logged.length = 0;
    await manager.streams.purge("GUILDS");
    await manager.streams.delete("GUILDS");
    await manager.streams.add(config);
    await until("started over again", () => node.status().saved === 0 && node.status().guilds === 0);
  }
});

test("a stream that lost its tail is noticed, also when it has grown past it again", async (t) => {
  for (const regrown of [false, true]) {
    const harness = await Harness.open(t);
    const backup = await harness.node("a");
    for (const guildId of guildIds.slice(0, 10)) await harness.event(guildId);
    await until("saved", () => backup.status().saved === 10);
    await harness.nc.flush();
    // The server comes back with the stream of now, after the node has saved more than that.
    const { cp, rm } = await import("node:fs/promises");
    await harness.server.kill();
    const store = `${harness.server.dataDir}/jetstream`;
    await cp(store, `${store}.old`, { recursive: true });
    await harness.restart();
    for (const guildId of guildIds.slice(10, 20)) await harness.event(guildId);
    await until("saved", () => backup.status().saved === 20);
    await backup.stop();
    await harness.server.kill();
    await rm(store, { recursive: true });
    await cp(`${store}.old`, store, { recursive: true });
    await harness.restart();
    if (regrown) for (const guildId of guildIds.slice(20, 32)) await harness.event(guildId);
    const expected = regrown ? 22 : 10;
    const node = await harness.node("a");
    await until("started over", () => node.status().saved === expected);
    t.is(node.status().guilds, expected);
    t.like(await harness.get("a", guildIds[15]!, 0), { outcome: "unknown" });
    const reason = harness.logged.find(({ level }) => level === "error")?.fields.reason;
    t.regex(`${reason}`, regrown ? /lost its tail/ : /ends at 10, before 20/);
  }
});

test("get: waits for a sequence to come, says how far it is, knows what it does not know", async (t) => {
  const harness = await Harness.open(t);
  await harness.node("a");
  const last = await harness.event(guild);
  const waiting = harness.get("a", guild, last + 1);
  await harness.event(guild);
  t.deepEqual(stateOf(await waiting), { count: 2, guildId: guild });
  t.deepEqual(await harness.get("a", guild, last + 50), { outcome: "behind", received: last + 1 });
  t.like(await harness.get("a", other, last), { outcome: "unknown" });
  t.like(await harness.get("a", "../../etc/passwd", 0), { outcome: "unknown" });
  const gone = await harness.tombstone(guild, 3);
  const reply = await harness.get("a", guild, gone);
  t.like(reply, { outcome: "found", document: { rev: 3, seq: gone } });
  t.is(stateOf(reply), null);
  for (const garbage of ["", "{", "null", "[]", '{"v":2}', '{"v":1,"guildId":1,"atLeastSeq":-1}', "\u0000"]) {
    await t.throwsAsync(harness.nc.request("dbnode.a.get", garbage, { timeout: 50 }));
  }
  t.is((await harness.get("a", guild, gone)).outcome, "found");
});

test("kill -9 of the server: the node goes on after it without a message lost or twice", async (t) => {
  const harness = await Harness.open(t);
  const node = await harness.node("a");
  await harness.event(guild, { ops: [{ op: "replace", path: "", value: { list: [] } }] });
  let last = 0;
  for (let round = 0; round < 3; round += 1) {
    for (let count = 0; count < 30; count += 1) {
      last = await harness.event(guild, { ops: [{ op: "add", path: "/list/-", value: count }] });
    }
    await until("received", () => node.status().received === last);
    await harness.server.kill();
    await harness.restart();
  }
  last = await harness.event(other);
  await until("saved", () => node.status().saved === last);
  const { list } = stateOf(await harness.get("a", guild, last)) as { list: number[] };
  t.is(list.length, 90);
});

test("I4: kill -9 of a node under load; what it announced is on its disk, and it catches up", async (t) => {
  const harness = await Harness.open(t);
  let announced = 0;
  harness.nc.subscribe("dbnode.a.saved", {
    callback: (_, msg) => {
      announced = Math.max(announced, JSON.parse(Buffer.from(msg.data).toString()).saved);
    },
  });
  let loading = true;
  const load = (async () => {
    let last = 0;
    while (loading) {
      const seqs = await Promise.all(guildIds.map((guildId) => harness.event(guildId)));
      last = Math.max(...seqs);
    }
    return last;
  })();
  for (let round = 0; round < 3; round += 1) {
    const before = announced;
    const child = fork(nodeProcess, [harness.server.url, "a", harness.dataDir("a")], { stdio: "inherit" });
    await until("announced more", () => announced > before + 200);
    child.kill("SIGKILL");
    await once(child, "exit");
    await harness.nc.flush();
    const store = await openStore(harness.dataDir("a"));
    t.true(store.watermark.saved >= announced, `disk ${store.watermark.saved}, announced ${announced}`);
    for (const [guildId, document] of store.readAll()) {
      t.deepEqual(JSON.parse(document.stateText), { count: document.rev, guildId });
    }
    await store.close();
  }
  loading = false;
  const last = await load;
  const [a, b] = [await harness.node("a"), await harness.node("b")];
  await until("saved", () => a.status().saved === last && b.status().saved === last);
  t.is(a.status().checksum, b.status().checksum);
  t.is(a.status().quarantined, 0);
  t.is(a.status().guilds, 40);
});

test("two nodes cannot share a folder, and a bad id is refused", async (t) => {
  const harness = await Harness.open(t);
  await harness.node("a");
  await t.throwsAsync(harness.node("a"), { code: "DATA_DIR_IN_USE" });
  await t.throwsAsync(harness.node("a.b"), { code: "CONFIG_INVALID" });
});
