/** Faults on demand, through the control endpoint as a bot's developer would use it. */
import test, { type ExecutionContext } from "ava";
import { startSimulator } from "../../src/simulator/index.js";
import { Client, call, until } from "./client.js";

async function connected(t: ExecutionContext, shards = 1) {
  const simulator = await startSimulator({ guilds: 6, paused: true, identifyIntervalMs: 0 });
  t.teardown(() => simulator.close());
  const clients: Client[] = [];
  for (let id = 0; id < shards; id++) {
    const client = new Client(simulator.url);
    await client.starts({ shard: [id, shards] });
    clients.push(client);
  }
  const fault = async (body: object) => (await call(simulator, "POST", "/control/fault", body)).json;
  return { simulator, clients, client: clients[0]!, fault };
}

test("drop and close hit the connections of one shard", async (t) => {
  const { clients, fault } = await connected(t, 3);
  t.deepEqual(await fault({ kind: "drop", shard: 1 }), { hit: 1 });
  t.is(await clients[1]!.closes(), 1006);
  t.deepEqual(await fault({ kind: "close", code: 4321, shard: 2 }), { hit: 1 });
  t.is(await clients[2]!.closes(), 4321);
  t.is(clients[0]!.closeCode, null);
});

test("op 7 and op 9 arrive; only a session that is not resumable is lost", async (t) => {
  const { simulator, client, fault } = await connected(t);
  await fault({ kind: "reconnect" });
  await client.receives("op 7", ({ op }) => op === 7);
  await fault({ kind: "invalidSession", resumable: true });
  await client.receives("op 9 true", ({ op, d }) => op === 9 && d === true);
  t.is(simulator.stats().sessions.length, 1);
  await fault({ kind: "invalidSession" });
  await client.receives("op 9 false", ({ op, d }) => op === 9 && d === false);
  t.is(simulator.stats().sessions.length, 0);
  await client.identifies();
  await until("a second READY on the same connection", () => client.of("READY").length === 2);
});

test("an outage takes a guild away and brings it back", async (t) => {
  const { simulator, client, fault } = await connected(t);
  const guildId = simulator.guildIds[2]!;
  await fault({ kind: "outage", guildId });
  const gone = await client.receives("GUILD_DELETE", (frame) => frame.t === "GUILD_DELETE");
  t.deepEqual(gone.d, { id: guildId, unavailable: true });
  await fault({ kind: "outage", guildId, end: true });
  await until("GUILD_CREATE", () => client.of("GUILD_CREATE").length === 7);
  t.deepEqual(simulator.ledger().guilds[guildId]?.counts, { GUILD_DELETE: 1, GUILD_CREATE: 1 });
});

test("duplicate sends the last dispatches again with their sequences", async (t) => {
  const { client, fault } = await connected(t);
  const sequences = client.frames.slice(-3).map(({ s }) => s);
  await fault({ kind: "duplicate", count: 3 });
  await until("repeated", () => client.of("GUILD_CREATE").length === 9);
  t.deepEqual(
    client.frames.slice(-3).map(({ s }) => s),
    sequences,
  );
});

test("delay holds dispatches back in order and ends without reordering", async (t) => {
  const { simulator, client, fault } = await connected(t);
  const say = (content: string) =>
    call(simulator, "POST", "/control/dispatch", {
      guildId: simulator.guildIds[0],
      t: "MESSAGE_CREATE",
      d: { content },
    });
  await fault({ kind: "delay", ms: 150 });
  const saidMs = performance.now();
  await say("first");
  await fault({ kind: "delay", ms: 0 });
  await say("second");
  await until("both", () => client.of("MESSAGE_CREATE").length === 2);
  t.true(performance.now() - saidMs >= 140);
  t.deepEqual(
    client.of("MESSAGE_CREATE").map(({ d }) => d.content),
    ["first", "second"],
  );
});

test("while reading is paused heartbeats are not acknowledged, after it they are", async (t) => {
  const { client, fault } = await connected(t);
  const startedMs = performance.now();
  await fault({ kind: "pauseReading", ms: 800 });
  await client.sends(1, client.s);
  await client.receives("ACK", ({ op }) => op === 11);
  t.true(performance.now() - startedMs >= 790);
});

test("refuse opens no WebSocket, as many times as asked", async (t) => {
  const { simulator, fault } = await connected(t);
  t.deepEqual(await fault({ kind: "refuse", status: 502, count: 2 }), { hit: 2 });
  for (let n = 0; n < 2; n++) t.is(await new Client(simulator.url).closes(), 1006);
  await new Client(simulator.url).receives("HELLO", ({ op }) => op === 10);
  t.like(simulator.stats(), { refused: 2, connectionsOpened: 2, connections: 2 });
});

test("restFailure fails as many requests as asked", async (t) => {
  const { simulator, fault } = await connected(t);
  await fault({ kind: "restFailure", status: 503, count: 2 });
  const statuses: number[] = [];
  for (let n = 0; n < 3; n++) statuses.push((await call(simulator, "GET", "/api/v10/users/@me")).status);
  t.deepEqual(statuses, [503, 503, 200]);
});

test("wrong control requests change nothing and say what is wanted", async (t) => {
  const { simulator } = await connected(t);
  const wrong: [string, unknown, RegExp][] = [
    ["/control/fault", { kind: "explode" }, /kind/],
    ["/control/fault", { kind: "delay", ms: -1 }, /ms: /],
    ["/control/fault", { kind: "outage", guildId: "123" }, /no guild 123/],
    ["/control/traffic", { rate: 5 }, /rate/],
    ["/control/dispatch", { guildId: simulator.guildIds[0], t: "message" }, /t: must be the name/],
    ["/control/interaction", { guildId: simulator.guildIds[0], name: "nope" }, /there are: count/],
    ["/control/nothing", {}, /GET \/control\/ledger/],
  ];
  for (const [path, body, message] of wrong) {
    const { status, json } = await call(simulator, "POST", path, body);
    t.true(status === 400 || status === 404, path);
    t.regex(json.message, message);
  }
  t.is(simulator.stats().dispatches, 0);
});
