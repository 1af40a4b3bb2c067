/** The ledger against what clients saw; determinism by seed; the rate. */
import test, { type ExecutionContext } from "ava";
import { type SimulatorOptions, startSimulator } from "../../src/simulator/index.js";
import { beat } from "../../src/simulator/traffic.js";
import { World } from "../../src/simulator/world.js";
import { book, Client, call, until } from "./client.js";

const SEED = 20_260_101;

const nameOf = ({ id, name }: { id: string; name: string }) => [id, name] as const;

async function start(t: ExecutionContext, options: SimulatorOptions = {}) {
  const simulator = await startSimulator({
    guilds: 30,
    paused: true,
    identifyIntervalMs: 0,
    seed: SEED,
    ...options,
  });
  t.log(`seed ${simulator.seed}`);
  t.teardown(() => simulator.close());
  return simulator;
}

test("the ledger counts exactly what a client saw, across dropped connections", async (t) => {
  const simulator = await start(t, { ratePerSecond: 4_000 });
  let client = new Client(simulator.url);
  const ready = await client.starts();
  const startup = client.frames.length;
  const frames = client.frames;
  const sessionId: string = ready.d.session_id;
  simulator.setTraffic({ running: true });
  for (let drops = 1; drops <= 3; drops++) {
    const wanted = drops * 1_000;
    await until(
      "traffic",
      () => frames.length + (client.frames === frames ? 0 : client.frames.length) > wanted,
    );
    simulator.fault({ kind: "drop" });
    await client.closes();
    if (client.frames !== frames) frames.push(...client.frames);
    const seq = frames.findLast(({ s }) => s !== null)!.s!;
    client = new Client(simulator.url);
    await client.resumes(sessionId, seq);
    await client.receives("RESUMED", (frame) => frame.t === "RESUMED");
  }
  await until("more traffic", () => client.frames.length > 1_000);
  const { json } = await call(simulator, "POST", "/control/traffic", { running: false });
  await until("all sent", () => simulator.stats().sessions[0]?.s === client.s);
  frames.push(...client.frames);
  const seen = book(frames.slice(startup));
  t.deepEqual(seen, simulator.ledger().guilds);
  t.is(
    json.totals.dispatches,
    Object.values(json.totals.counts).reduce((a, b) => Number(a) + Number(b), 0),
  );
  t.true((json.totals.counts.GUILD_DELETE ?? 0) > 0 && (json.totals.counts.GUILD_CREATE ?? 0) > 0);
  t.true("dm" in seen);
});

test("what no client can have seen is voided when its session is lost, interactions too", async (t) => {
  const simulator = await start(t);
  const client = new Client(simulator.url);
  await client.starts();
  const guildId = simulator.guildIds[0];
  const say = () => call(simulator, "POST", "/control/dispatch", { guildId, t: "MESSAGE_CREATE" });
  await say();
  await until("seen", () => client.of("MESSAGE_CREATE").length === 1);
  await client.sends(1, client.s);
  await client.receives("ACK", ({ op }) => op === 11);
  await say();
  await until("seen", () => client.of("MESSAGE_CREATE").length === 2);
  client.terminate();
  await until("detached", () => simulator.stats().sessions[0]?.connected === false);
  await say();
  await call(simulator, "POST", "/control/interaction", { guildId, name: "count" });
  t.is(simulator.ledger().totals.dispatches, 4);
  simulator.fault({ kind: "forgetSession" });
  const { totals, interactions, guilds } = simulator.ledger();
  t.deepEqual(totals, {
    dispatches: 2,
    counts: { MESSAGE_CREATE: 2, INTERACTION_CREATE: 0 },
    voided: 2,
    unconfirmed: 1,
  });
  t.is(guilds[guildId!]!.idSum, book(client.of("MESSAGE_CREATE"))[guildId!]!.idSum);
  t.like(interactions, { sent: 1, pending: 0, never: 0, voided: 1 });
});

test("what another session got is not voided; without any session nothing counts", async (t) => {
  const simulator = await start(t);
  const guildId = simulator.guildIds[0];
  const say = () => call(simulator, "POST", "/control/dispatch", { guildId, t: "MESSAGE_CREATE" });
  t.false((await say()).json.sent);
  const [kept, lost] = [new Client(simulator.url), new Client(simulator.url)];
  await kept.starts();
  await lost.starts();
  lost.terminate();
  await until("detached", () => simulator.stats().sessions.filter((s) => s.connected).length === 1);
  await say();
  const again = new Client(simulator.url);
  await again.resumes(lost.sessionId, lost.s);
  await again.receives("RESUMED", ({ t }) => t === "RESUMED");
  again.close(1000);
  await until("ended", () => simulator.stats().sessions.length === 1);
  t.like(simulator.ledger().totals, { dispatches: 1, voided: 0, unconfirmed: 0 });
});

test("the same seed makes the same world and the same beats, another seed others", (t) => {
  const make = (seed: number) => {
    const world = new World({ seed, guilds: 50, applicationId: "1000000000000000000" });
    return {
      guilds: Array.from({ length: 50 }, (_, guild) => world.guildCreate(guild, 5)),
      beats: Array.from({ length: 500 }, (_, n) => beat(seed, n, 50)),
    };
  };
  t.deepEqual(make(SEED), make(SEED));
  t.notDeepEqual(make(SEED).guilds, make(SEED + 1).guilds);
  t.notDeepEqual(make(SEED).beats, make(SEED + 1).beats);
});

test("the mix has its shares, and every guild gets some", (t) => {
  const beats = Array.from({ length: 50_000 }, (_, n) => beat(SEED, n, 500));
  const share = (kind: string) => beats.filter((one) => one.kind === kind).length / beats.length;
  t.true(Math.abs(share("message") - 0.7) < 0.01);
  t.true(Math.abs(share("interaction") - 0.1) < 0.01);
  t.true(Math.abs(share("memberUpdate") - 0.08) < 0.01);
  t.is(new Set(beats.map(({ guild }) => guild)).size, 500);
});

test("guilds shown after an IDENTIFY are as the dispatches before it left them", async (t) => {
  const simulator = await start(t, { guilds: 3, ratePerSecond: 3_000 });
  const first = new Client(simulator.url);
  await first.starts();
  simulator.setTraffic({ running: true });
  await until(
    "changes",
    () => first.of("CHANNEL_CREATE").length > 8 && first.of("GUILD_ROLE_UPDATE").length > 10,
  );
  simulator.setTraffic({ running: false });
  await until("all sent", () => simulator.stats().sessions[0]?.s === first.s);
  const second = new Client(simulator.url);
  await second.starts();
  for (const { d } of second.of("GUILD_CREATE")) {
    const channels = new Map(
      first
        .of("GUILD_CREATE")
        .find((f) => f.d.id === d.id)!
        .d.channels.map(nameOf),
    );
    for (const { t: type, d: changed } of first.frames) {
      if (changed?.guild_id !== d.id) continue;
      if (type === "CHANNEL_CREATE" || type === "CHANNEL_UPDATE") channels.set(changed.id, changed.name);
      if (type === "CHANNEL_DELETE") channels.delete(changed.id);
    }
    t.deepEqual(new Map(d.channels.map(nameOf)), channels);
  }
});

// Serial: other tests of this process would take the time that is measured here.
test.serial("the rate is kept", async (t) => {
  const simulator = await start(t, { ratePerSecond: 1_000 });
  const client = new Client(simulator.url);
  await client.starts();
  const startedMs = performance.now();
  simulator.setTraffic({ running: true });
  await until("2,000 dispatches", () => simulator.stats().dispatches >= 2_000);
  simulator.setTraffic({ running: false });
  const perSecond = (simulator.stats().dispatches * 1_000) / (performance.now() - startedMs);
  t.true(perSecond > 800 && perSecond < 1_100, `${perSecond} per second`);
});

test("wrong options are named, a taken port is refused", async (t) => {
  await t.throwsAsync(startSimulator({ guilds: -1, seed: 1.5 }), { message: /guilds: .*seed: / });
  await t.throwsAsync(startSimulator({ rate: 5 } as never), { message: /rate/ });
  const simulator = await start(t);
  await t.throwsAsync(startSimulator({ port: simulator.port }), { code: "EADDRINUSE" });
});
