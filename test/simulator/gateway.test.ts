/** The gateway: opening, resuming and losing sessions, close codes, identify limits, compression. */
import test, { type ExecutionContext } from "ava";
import type { APIGuildMember } from "discord-api-types/v10";
import { type SimulatorOptions, startSimulator } from "../../src/simulator/index.js";
import { Client, call, until } from "./client.js";

async function start(t: ExecutionContext, options: SimulatorOptions = {}) {
  const simulator = await startSimulator({ guilds: 20, paused: true, identifyIntervalMs: 0, ...options });
  t.teardown(() => simulator.close());
  return simulator;
}

/** Dispatches `count` messages into guilds in turn. */
async function say(simulator: Awaited<ReturnType<typeof start>>, count: number) {
  for (let n = 0; n < count; n++) {
    const guildId = simulator.guildIds[n % simulator.guildIds.length];
    await call(simulator, "POST", "/control/dispatch", {
      guildId,
      t: "MESSAGE_CREATE",
      d: { content: `${n}` },
    });
  }
}

test("a session begins with HELLO, READY with unavailable guilds, and the guilds of the shard", async (t) => {
  const simulator = await start(t, { guilds: 60, heartbeatIntervalMs: 12_345 });
  const clients = [0, 1, 2].map(() => new Client(simulator.url));
  const seen: string[] = [];
  for (const [id, client] of clients.entries()) {
    const ready = await client.starts({ shard: [id, 3] });
    t.deepEqual(client.frames[0], {
      t: null,
      s: null,
      op: 10,
      d: { heartbeat_interval: 12_345, _trace: [] },
    });
    t.deepEqual([ready.s, ready.d.shard, ready.d.v], [1, [id, 3], 10]);
    t.true(ready.d.guilds.every((guild: { unavailable: boolean }) => guild.unavailable));
    for (const { d } of client.of("GUILD_CREATE")) {
      t.is(Number((BigInt(d.id) >> 22n) % 3n), id);
      t.deepEqual([d.channels.length, d.roles.length], [30, 20]);
      seen.push(d.id);
    }
  }
  t.deepEqual(seen.sort(), [...simulator.guildIds].sort());
});

test("every dispatch has the next sequence, also over zlib-stream and with payloads of every size", async (t) => {
  const simulator = await start(t);
  const client = new Client(simulator.url, true);
  await client.starts();
  const guildId = simulator.guildIds[0];
  const content = "é".repeat(200_000);
  await call(simulator, "POST", "/control/dispatch", { guildId, t: "MESSAGE_CREATE", d: { content } });
  await say(simulator, 50);
  await until("all messages", () => client.of("MESSAGE_CREATE").length === 51);
  t.is(client.of("MESSAGE_CREATE")[0]!.d.content, content);
  const sequences = client.frames.filter(({ op }) => op === 0).map(({ s }) => s);
  t.deepEqual(
    sequences,
    Array.from({ length: 1 + 20 + 51 }, (_, at) => at + 1),
  );
});

test("a RESUME replays exactly what was missed, in order, then says RESUMED", async (t) => {
  const simulator = await start(t);
  const first = new Client(simulator.url);
  await first.starts();
  await say(simulator, 5);
  await until("5 messages", () => first.of("MESSAGE_CREATE").length === 5);
  first.terminate();
  await until("detached", () => simulator.stats().sessions[0]?.connected === false);
  await say(simulator, 7);
  const second = new Client(simulator.url);
  await second.resumes(first.sessionId, first.s - 2);
  await second.receives("RESUMED", ({ t }) => t === "RESUMED");
  await say(simulator, 1);
  await until("live again", () => second.of("MESSAGE_CREATE").length === 2 + 7 + 1);
  const contents = second.frames.filter(({ op }) => op === 0).map(({ t: type, d }) => d.content ?? type);
  t.deepEqual(contents, ["3", "4", "0", "1", "2", "3", "4", "5", "6", "RESUMED", "0"]);
  t.deepEqual(
    second.frames.filter(({ op }) => op === 0).map(({ s }) => s),
    Array.from({ length: 11 }, (_, at) => first.s - 1 + at),
  );
  t.is(simulator.stats().resumes, 1);
});

test("a RESUME outside the replay window gets op 9 and ends the session", async (t) => {
  const simulator = await start(t, { replayWindow: 3 });
  const first = new Client(simulator.url);
  await first.starts();
  first.terminate();
  await until("detached", () => simulator.stats().sessions[0]?.connected === false);
  await say(simulator, 60);
  const second = new Client(simulator.url);
  await second.resumes(first.sessionId, first.s);
  t.is((await second.receives("op 9", ({ op }) => op === 9)).d, false);
  t.deepEqual(simulator.stats().sessions, []);
  t.is(simulator.stats().sessionsLost.windowExceeded, 1);
});

test("closing with 1000 or 1001 ends a session, 4200 and a broken connection keep it", async (t) => {
  const simulator = await start(t);
  for (const [code, kept] of [
    [1000, false],
    [1001, false],
    [4200, true],
    [1006, true],
  ] as const) {
    const first = new Client(simulator.url);
    await first.starts();
    if (code === 1006) first.terminate();
    else first.close(code);
    await first.closes();
    await until("closed at the server", () => simulator.stats().connections === 0);
    const second = new Client(simulator.url);
    await second.resumes(first.sessionId, first.s);
    const answer = await second.receives("an answer", ({ op, t }) => op === 9 || t === "RESUMED");
    t.is(answer.op, kept ? 0 : 9, `close code ${code}`);
    second.close(1000);
    await until("closed", () => simulator.stats().connections === 0);
  }
});

test("a RESUME while the old connection is open: that one is closed, what it had not sent is replayed", async (t) => {
  const simulator = await start(t);
  const first = new Client(simulator.url);
  await first.starts();
  const { s } = first;
  await say(simulator, 5);
  const second = new Client(simulator.url);
  await second.resumes(first.sessionId, s);
  t.is(await first.closes(), 4000);
  await say(simulator, 3);
  await until("5 replayed and 3 new", () => second.of("MESSAGE_CREATE").length === 8);
  t.is(first.of("MESSAGE_CREATE").length, 5);
  t.deepEqual(
    second.frames.filter((frame) => frame.op === 0).map((frame) => frame.s),
    Array.from({ length: 9 }, (_, index) => s + 1 + index),
  );
  t.like(simulator.stats(), {
    connections: 1,
    connectionsOpened: 2,
    sessionsLost: { closed: 0, expired: 0 },
  });
});

test("who neither identifies nor resumes in time is closed with 4009, heartbeats or not", async (t) => {
  const simulator = await start(t, { identifyTimeoutMs: 1_000 });
  const [identified, silent, beating] = [0, 1, 2].map(() => new Client(simulator.url));
  await identified!.starts();
  const timer = setInterval(() => void beating!.sends(1, null), 50);
  t.teardown(() => clearInterval(timer));
  t.is(await silent!.closes(), 4009);
  t.is(await beating!.closes(), 4009);
  t.true(beating!.frames.filter(({ op }) => op === 11).length > 0);
  t.is(identified!.closeCode, null);
  t.like(simulator.stats(), { identifyTimeouts: 2, zombies: 0, connections: 1 });
});

test("a session that nobody resumes in time expires", async (t) => {
  const simulator = await start(t, { sessionTtlMs: 30 });
  const client = new Client(simulator.url);
  await client.starts();
  client.terminate();
  await until("expired", () => simulator.stats().sessionsLost.expired === 1);
  t.deepEqual(simulator.stats().sessions, []);
});

test("mistakes are closed with Discord's codes", async (t) => {
  const simulator = await start(t, { disallowedIntents: 1 << 8, identifyLimit: 1, guilds: 2_501, shards: 2 });
  const mistakes: [number, (client: Client) => Promise<void>][] = [
    [4001, (client) => client.sends(77, null)],
    [4002, (client) => client.sendsText("{")],
    [4002, (client) => client.sendsText(JSON.stringify({ op: 1, d: "x".repeat(4_096) }))],
    [4002, (client) => client.sends(2, { token: "simulator-token" })],
    [4003, (client) => client.sends(8, { guild_id: simulator.guildIds[0] })],
    [4004, (client) => client.identifies({ token: "wrong" })],
    [4004, (client) => client.sends(6, { token: "wrong", session_id: "x", seq: 1 })],
    [4010, (client) => client.identifies({ shard: [2, 2] })],
    [4011, (client) => client.identifies({ shard: [0, 1] })],
    [4013, (client) => client.identifies({ intents: 1 << 30, shard: [0, 2] })],
    [4014, (client) => client.identifies({ intents: 1 << 8, shard: [0, 2] })],
  ];
  for (const [code, mistake] of mistakes) {
    const client = new Client(simulator.url);
    await mistake(client);
    t.is(await client.closes(), code);
  }
  t.is(simulator.stats().identifies, 0);

  const twice = new Client(simulator.url);
  await twice.identifies({ shard: [0, 2], intents: 1 });
  await twice.receives("READY", (frame) => frame.t === "READY");
  await twice.identifies({ shard: [0, 2] });
  t.is(await twice.closes(), 4005);
  const ahead = new Client(simulator.url);
  await ahead.resumes(twice.sessionId, 1_000_000);
  t.is(await ahead.closes(), 4007);
  const overLimit = new Client(simulator.url);
  await overLimit.identifies({ shard: [0, 2], intents: 1 });
  t.is(await overLimit.closes(), 4004);
  t.is(simulator.stats().identifiesOverLimit, 1);
});

test("the 121st payload in a minute is closed with 4008, and the session can be resumed", async (t) => {
  const simulator = await start(t);
  const client = new Client(simulator.url);
  await client.starts();
  for (let n = 0; n < 119; n++) await client.sends(1, client.s);
  await until("119 ACKs", () => client.frames.filter(({ op }) => op === 11).length === 119);
  t.is(client.closeCode, null);
  await client.sends(1, client.s);
  t.is(await client.closes(), 4008);
  t.is(simulator.stats().sessions.length, 1);
});

test("one IDENTIFY per max_concurrency key and interval; the next gets op 9", async (t) => {
  const simulator = await start(t, { identifyIntervalMs: 60_000, maxConcurrency: 2, identifyLimit: 10 });
  const clients = [0, 1, 2].map(() => new Client(simulator.url));
  for (const [id, client] of clients.entries()) await client.identifies({ shard: [id, 3] });
  await clients[0]!.receives("READY", ({ t }) => t === "READY");
  await clients[1]!.receives("READY", ({ t }) => t === "READY");
  t.is((await clients[2]!.receives("op 9", ({ op }) => op === 9)).d, false);
  const { json } = await call(simulator, "GET", "/api/v10/gateway/bot");
  t.like(json.session_start_limit, { total: 10, remaining: 8, max_concurrency: 2 });
  t.true(json.session_start_limit.reset_after > 86_000_000);
  const { identifiesTooSoon, identifyShortestGapMs } = simulator.stats();
  t.is(identifiesTooSoon, 1);
  t.true(identifyShortestGapMs !== null && identifyShortestGapMs < 60_000);
});

test("a spent session start limit is whole again after its reset", async (t) => {
  const simulator = await start(t, { identifyLimit: 1, identifyResetMs: 300 });
  const client = new Client(simulator.url);
  await client.starts();
  await until("the reset", () => simulator.stats().identifiesRemaining === 1);
  await new Client(simulator.url).starts();
  t.is(simulator.stats().identifiesOverLimit, 0);
});

test("a client that does not heartbeat is closed and can resume", async (t) => {
  const simulator = await start(t, { heartbeatIntervalMs: 50 });
  const client = new Client(simulator.url);
  await client.starts();
  t.is(await client.closes(), 4009);
  t.is(simulator.stats().zombies, 1);
  t.is(simulator.stats().sessions.length, 1);
});

test("two sessions on one shard, and one of another shard count, each get everything", async (t) => {
  const simulator = await start(t);
  const clients = [new Client(simulator.url), new Client(simulator.url), new Client(simulator.url)];
  await clients[0]!.starts({ shard: [0, 1] });
  await clients[1]!.starts({ shard: [0, 1] });
  await clients[2]!.starts({ shard: [0, 2] });
  await say(simulator, 40);
  await until("everything", () => clients.slice(0, 2).every((c) => c.of("MESSAGE_CREATE").length === 40));
  const onShard = simulator.guildIds.filter((id) => (BigInt(id) >> 22n) % 2n === 0n);
  await until("its half", () => clients[2]!.of("MESSAGE_CREATE").length === onShard.length * 2);
  t.true(clients[2]!.of("MESSAGE_CREATE").every(({ d }) => onShard.includes(d.guild_id)));
  t.is(simulator.ledger().totals.dispatches, 40);
});

test("intents decide which dispatches come and whether they show message content", async (t) => {
  const simulator = await start(t);
  const [all, blind] = [new Client(simulator.url), new Client(simulator.url)];
  await all.starts();
  await blind.starts({ intents: 1 | (1 << 9) });
  const guildId = simulator.guildIds[0];
  for (const type of ["TYPING_START", "GUILD_MEMBER_UPDATE", "MESSAGE_CREATE"]) {
    await call(simulator, "POST", "/control/dispatch", { guildId, t: type, d: { content: "secret" } });
  }
  await blind.receives("the message", (frame) => frame.t === "MESSAGE_CREATE");
  t.deepEqual(
    blind.frames.slice(-1).map((frame) => [frame.t, frame.d.content, frame.s]),
    [["MESSAGE_CREATE", "", 22]],
  );
  await all.receives("the message", (frame) => frame.t === "MESSAGE_CREATE" && frame.d.content === "secret");
  t.is(all.of("TYPING_START").length, 1);
});

test("members are sent in chunks on request", async (t) => {
  const simulator = await start(t, { guilds: 200 });
  const client = new Client(simulator.url);
  await client.starts();
  const largest = client.of("GUILD_CREATE").sort((a, b) => b.d.member_count - a.d.member_count)[0]!.d;
  await client.sends(8, { guild_id: largest.id, query: "", limit: 0, nonce: "n1" });
  const chunks = Math.ceil(largest.member_count / 1_000);
  await until("all chunks", () => client.of("GUILD_MEMBERS_CHUNK").length === chunks);
  const ids = client
    .of("GUILD_MEMBERS_CHUNK")
    .flatMap(({ d }) => d.members.map((m: APIGuildMember) => m.user.id));
  t.is(new Set(ids).size, largest.member_count);
  t.is(client.of("GUILD_MEMBERS_CHUNK")[0]!.d.nonce, "n1");
});
