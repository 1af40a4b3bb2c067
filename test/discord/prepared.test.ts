/** A session that moves from one shard to another: prepared, given away, taken over, and all that may go wrong. */
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import test, { type ExecutionContext } from "ava";
import { GatewayOpcodes } from "discord-api-types/v10";
import { WebSocketServer } from "ws";
import type { Logger } from "../../src/core/bot.js";
import { Connection } from "../../src/discord/connection.js";
import { Shard } from "../../src/discord/shard.js";
import type { Fault, Simulator, SimulatorOptions } from "../../src/simulator/index.js";
import { intents, Probe, quiet, quietShard, settle, simulate, totals, until } from "./probe.js";
import { startRelay } from "./relay.js";

const traffic = { ratePerSecond: 2_000, running: true };

/** Two shards in the place of two processes: the parent has the session, the child may not make one. */
async function family(t: ExecutionContext, options: SimulatorOptions = {}) {
  const { simulator, rest } = await simulate(t, options);
  const parent = new Probe(t, { rest, token: simulator.token });
  const child = new Probe(t, { rest, token: simulator.token, identify: "refused" });
  return { simulator, rest, parent, child };
}

/** A log of the waits before the attempts to come. */
function delayLog(): { delays: number[]; log: Logger } {
  const delays: number[] = [];
  return {
    delays,
    log: { ...quiet, info: (fields) => void delays.push((fields as { delayMs: number }).delayMs) },
  };
}

async function ready(probe: Probe): Promise<void> {
  if (probe.shard.state === "idle") probe.shard.connect();
  await until(() => probe.shard.state === "ready");
}

/** Everything the simulator sent was taken once, in order, by the one or the other; there was one IDENTIFY. */
async function isExact(t: ExecutionContext, simulator: Simulator, probes: Probe[]): Promise<void> {
  await settle(simulator, probes);
  const { taken, sent } = totals(simulator, probes);
  t.deepEqual(taken, sent);
  const sequences = probes.flatMap((probe) => probe.taken.map(({ s }) => s));
  t.is(new Set(sequences).size, sequences.length);
  t.is(simulator.stats().identifies, 1);
}

for (const compress of [false, true]) {
  const over = compress ? " through zlib-stream" : "";
  test.serial(
    `prepared it sends heartbeats only, then RESUMEs on the connection it has${over}`,
    async (t) => {
      const { simulator, rest, parent } = await family(t, { heartbeatIntervalMs: 400 });
      const child = new Probe(t, { rest, token: simulator.token, identify: "refused", compress });
      await ready(parent);
      simulator.setTraffic(traffic);
      t.true(await child.shard.prepare(parent.shard.session?.resumeUrl));
      t.is(child.shard.state, "prepared");
      // Longer than the simulator suffers a connection without heartbeats: two intervals.
      const preparedAt = performance.now();
      await until(() => performance.now() > preparedAt + 1_000);
      t.is(child.shard.state, "prepared");
      t.deepEqual([child.taken.length, child.events.length, child.shard.session], [0, 0, null]);

      const session = await parent.shard.leave();
      const { s } = parent.taken.at(-1)!;
      t.is(session?.s, s);
      t.deepEqual([parent.shard.state, parent.shard.session], ["idle", null]);
      child.shard.resumeAs(session!);
      t.is(child.shard.state, "connecting");
      await ready(child);
      await isExact(t, simulator, [parent, child]);
      t.is(parent.taken.at(-1)?.s, s);
      t.is(child.taken[0]?.s, s + 1);
      t.is(child.shard.session?.s, child.taken.at(-1)?.s);
      t.deepEqual([parent.kinds(), child.kinds()], [["ready"], ["resumed"]]);
      t.like(child.shard.counts, { identifies: 0, resumes: 1 });
      t.like(simulator.stats(), { connectionsOpened: 2, connections: 1, resumes: 1, zombies: 0 });
    },
  );
}

test.serial("given away in the middle of a packet: that dispatch counts, none behind it does", async (t) => {
  const { simulator, parent, child } = await family(t);
  await ready(parent);
  await child.shard.prepare(parent.shard.session?.resumeUrl);
  simulator.setTraffic({ ratePerSecond: 20_000, running: true });
  const leaving = new Promise<Awaited<ReturnType<typeof parent.shard.leave>>>((resolve) => {
    parent.onTake = (s) => {
      if (s === 1_000) resolve(parent.shard.leave());
    };
  });
  const session = await leaving;
  t.is(session?.s, 1_000);
  await until(() => simulator.stats().sessions[0]!.s > 1_000);
  child.shard.resumeAs(session!);
  await ready(child);
  await until(() => child.taken.at(-1)?.replayed === false);
  t.is(parent.taken.at(-1)?.s, 1_000);
  t.like(child.taken[0], { s: 1_001, replayed: true });
  await isExact(t, simulator, [parent, child]);
});

test.serial(
  "closed resumably: nothing is taken from the call on, though the gateway goes on sending",
  async (t) => {
    const { simulator, parent, child } = await family(t);
    await ready(parent);
    await child.shard.prepare(parent.shard.session?.resumeUrl);
    simulator.setTraffic({ ratePerSecond: 20_000, running: true });
    await until(() => parent.taken.length > 1_000);
    const closing = parent.shard.close({ resumable: true });
    const count = parent.taken.length;
    const session = await closing;
    t.is(session?.s, parent.taken.at(-1)?.s);
    t.is(simulator.stats().clientCloses[4200], 1);
    child.shard.resumeAs(session!);
    await ready(child);
    t.is(parent.taken.length, count);
    await isExact(t, simulator, [parent, child]);
  },
);

const deaths: [string, Fault][] = [
  ["a dropped connection", { kind: "drop" }],
  ["close code 1000", { kind: "close", code: 1000 }],
  ["close code 4000", { kind: "close", code: 4000 }],
  ["close code 4003, not authenticated", { kind: "close", code: 4003 }],
  ["close code 4009, timed out", { kind: "close", code: 4009 }],
  ["opcode 7", { kind: "reconnect" }],
  ["opcode 9", { kind: "invalidSession" }],
];

for (const [name, fault] of deaths) {
  test.serial(`${name} while it waits: the prepared shard is prepared again`, async (t) => {
    const { simulator, parent, child } = await family(t);
    await child.shard.prepare();
    t.is(simulator.fault(fault), 1);
    await until(() => simulator.stats().connectionsOpened === 2 && child.shard.state === "prepared");
    t.deepEqual(child.kinds(), []);
    await ready(parent);
    simulator.setTraffic(traffic);
    await until(() => parent.taken.length > 100);
    child.shard.resumeAs((await parent.shard.leave())!);
    await ready(child);
    await isExact(t, simulator, [parent, child]);
    t.is(simulator.stats().connectionsOpened, 3);
  });

  test.serial(`${name} just when it is released: another connection RESUMEs at once`, async (t) => {
    const { simulator, rest, parent } = await family(t);
    const { delays, log } = delayLog();
    const child = new Probe(t, { rest, token: simulator.token, identify: "refused", log });
    await ready(parent);
    await child.shard.prepare(parent.shard.session?.resumeUrl);
    simulator.setTraffic(traffic);
    await until(() => parent.taken.length > 100);
    const session = await parent.shard.leave();
    await until(() => simulator.stats().connections === 1);
    const startedAt = performance.now();
    // Neither side has turned its event loop: the fault is on its way when RESUME leaves.
    t.is(simulator.fault(fault), 1);
    child.shard.resumeAs(session!);
    await ready(child);
    t.log(`ready again after ${(performance.now() - startedAt).toFixed(0)} ms`);
    await isExact(t, simulator, [parent, child]);
    t.false(child.kinds().includes("invalidated"));
    t.is(simulator.stats().connectionsOpened, 3);
    t.deepEqual(delays, [0]);
  });
}

test("a gateway that closes who does not identify in time: prepared again and again", async (t) => {
  const { simulator, parent, child } = await family(t, { identifyTimeoutMs: 150 });
  await child.shard.prepare();
  await until(() => simulator.stats().identifyTimeouts === 3);
  await ready(parent);
  await until(() => child.shard.state === "prepared");
  child.shard.resumeAs((await parent.shard.leave())!);
  await ready(child);
  t.is(simulator.stats().identifies, 1);
});

const parentsTroubles: [string, Fault][] = [
  ["opcode 7", { kind: "reconnect", shard: 0 }],
  ["a dropped connection", { kind: "drop", shard: 0 }],
  ["close code 4000", { kind: "close", code: 4000, shard: 0 }],
];

for (const [name, fault] of parentsTroubles) {
  for (const moment of [
    "before it is noticed",
    "while off the gateway",
    "with its RESUME unanswered",
  ] as const) {
    test.serial(`${name} hits the parent, which leaves ${moment}: the child goes on`, async (t) => {
      const { simulator, parent, child } = await family(t);
      await ready(parent);
      await child.shard.prepare(parent.shard.session?.resumeUrl);
      simulator.setTraffic(traffic);
      await until(() => parent.taken.length > 100);
      const { connectionsOpened } = simulator.stats();
      t.is(simulator.fault(fault), 1);
      const isThen = {
        "before it is noticed": () => true,
        "while off the gateway": () => parent.shard.state !== "ready",
        "with its RESUME unanswered": () => simulator.stats().connectionsOpened > connectionsOpened,
      }[moment];
      // Looked at in every turn of the event loop: an answer takes more than one.
      while (!isThen()) await new Promise(setImmediate);
      t.is(parent.shard.state === "ready", moment === "before it is noticed");
      child.shard.resumeAs((await parent.shard.leave())!);
      await ready(child);
      await isExact(t, simulator, [parent, child]);
      t.false(child.kinds().includes("invalidated"));
      await until(() => simulator.stats().connections === 1);
    });
  }
}

test.serial(
  "the parent leaves with its RESUME on a long way: the child's comes after it, and is the last",
  async (t) => {
    const { simulator, rest, child } = await family(t);
    const direct = await rest.gatewayUrl();
    const far = await startRelay(t, simulator.port, 60);
    let resumes = 0;
    const debug = (_: object, message?: string) => {
      if (message?.includes("Resuming session")) resumes += 1;
    };
    const log = { ...quiet, debug };
    const parent = new Probe(t, { rest: { gatewayUrl: async () => far }, token: simulator.token, log });
    await ready(parent);
    await child.shard.prepare(direct);
    simulator.setTraffic(traffic);
    await until(() => parent.taken.length > 100);
    t.is(simulator.fault({ kind: "drop", shard: 0 }), 1);
    await until(() => resumes === 1);
    t.is(simulator.stats().resumes, 0);
    const session = await parent.shard.leave();
    child.shard.resumeAs({ ...session!, resumeUrl: direct });
    await ready(child);
    await isExact(t, simulator, [parent, child]);
    t.is(simulator.stats().resumes, 2);
    await until(() => simulator.stats().connections === 1);
    t.deepEqual(child.kinds(), ["resumed"]);
  },
);

test.serial("a resumable opcode 9 just when the parent leaves: the child goes on", async (t) => {
  const { simulator, parent, child } = await family(t);
  await ready(parent);
  await child.shard.prepare(parent.shard.session?.resumeUrl);
  simulator.setTraffic(traffic);
  await until(() => parent.taken.length > 100);
  t.is(simulator.fault({ kind: "invalidSession", resumable: true, shard: 0 }), 1);
  child.shard.resumeAs((await parent.shard.leave())!);
  await ready(child);
  await isExact(t, simulator, [parent, child]);
});

for (const [name, fault] of [
  ["opcode 9", { kind: "invalidSession", shard: 0 }],
  ["a forgotten session", { kind: "forgetSession", shard: 0 }],
] as [string, Fault][]) {
  test.serial(`${name} for good in the switch: reported, and no IDENTIFY before it is allowed`, async (t) => {
    const { simulator, rest, parent } = await family(t);
    const { delays, log } = delayLog();
    const child = new Probe(t, { rest, token: simulator.token, identify: "refused", log });
    await ready(parent);
    await child.shard.prepare(parent.shard.session?.resumeUrl);
    t.is(simulator.fault(fault), 1);
    const session = await parent.shard.leave();
    child.shard.resumeAs(session!);
    await until(() => child.shard.state === "barred");
    t.is(child.kinds().at(-1), "invalidated");
    t.deepEqual(delays, [0], "asked once more on another connection, then barred without a wait");
    t.deepEqual([child.fatal, child.shard.session], [undefined, null]);
    t.like(simulator.stats(), { identifies: 1, identifiesTooSoon: 0 });
    await until(() => simulator.stats().connections === 0);

    child.shard.allowIdentify();
    await ready(child);
    t.not(child.shard.session?.sessionId, session?.sessionId);
    t.is(simulator.stats().identifies, 2);
    t.is(parent.shard.state, "idle");
  });
}

test.serial(
  "refused to IDENTIFY a shard without a session connects nowhere, and takes one that is handed over",
  async (t) => {
    const { simulator, parent, child } = await family(t);
    child.shard.connect();
    t.is(child.shard.state, "barred");
    t.is(simulator.stats().connectionsOpened, 0);
    await ready(parent);
    child.shard.resumeAs((await parent.shard.leave())!);
    await ready(child);
    // Who gave its session away may not make another either.
    parent.shard.connect();
    t.is(parent.shard.state, "barred");
    t.is(simulator.stats().identifies, 1);
  },
);

test.serial("nothing was handed over: the prepared shard is told to start on its own", async (t) => {
  const { simulator, child } = await family(t);
  await child.shard.prepare();
  child.shard.allowIdentify();
  t.is(child.shard.state, "prepared");
  await new Promise<void>((resolve) => {
    child.onTake = () => resolve();
    child.shard.connect();
  });
  t.is(child.taken[0]?.t, "READY");
  await until(() => simulator.stats().connections === 1);
});

test("sockets that the gateway refuses: prepared when it relents; the resume URL is not given up for good", async (t) => {
  const { simulator, parent, child } = await family(t);
  await ready(parent);
  simulator.fault({ kind: "refuse", count: 3 });
  const preparing = child.shard.prepare(parent.shard.session?.resumeUrl);
  await until(() => simulator.stats().refused === 1);
  t.is(child.shard.state, "preparing");
  t.true(await preparing);
  t.is(simulator.stats().refused, 3);
  child.shard.resumeAs((await parent.shard.leave())!);
  await ready(child);
  t.is(simulator.stats().connectionsOpened, 2);
});

test("refused in the switch, with no prepared connection: tried again until it RESUMEs", async (t) => {
  const { simulator, parent, child } = await family(t);
  await ready(parent);
  simulator.setTraffic(traffic);
  const session = await parent.shard.leave();
  simulator.fault({ kind: "refuse", status: 429, count: 2 });
  child.shard.resumeAs(session!);
  await ready(child);
  await isExact(t, simulator, [parent, child]);
  t.is(simulator.stats().refused, 2);
});

test.serial(
  "prepared at another host than the session's: an ordinary connection RESUMEs there",
  async (t) => {
    const { simulator, rest, parent, child } = await family(t);
    await ready(parent);
    const gatewayUrl = await rest.gatewayUrl();
    await child.shard.prepare(gatewayUrl);
    const session = await parent.shard.leave();
    // The same machine by another name.
    child.shard.resumeAs({ ...session!, resumeUrl: gatewayUrl.replace("127.0.0.1", "localhost") });
    await ready(child);
    t.is(simulator.stats().connectionsOpened, 3);
    await until(() => simulator.stats().connections === 1);
    t.is(simulator.stats().identifies, 1);
  },
);

test("a resume URL that does not answer: prepared at the general one, which then serves the session", async (t) => {
  const { simulator, parent, child } = await family(t);
  await ready(parent);
  t.true(await child.shard.prepare("ws://127.0.0.1:9"));
  const session = await parent.shard.leave();
  child.shard.resumeAs({ ...session!, resumeUrl: "ws://127.0.0.1:9" });
  await ready(child);
  t.like(simulator.stats(), { connectionsOpened: 2, resumes: 1 });
  t.is(child.shard.session?.resumeUrl, "ws://127.0.0.1:9");
});

test.serial(
  "taken over at any moment of the preparation: RESUMEd once, one connection is left",
  async (t) => {
    const { simulator, rest, parent } = await family(t);
    await ready(parent);
    const { resumeUrl } = parent.shard.session!;
    let holder = parent;
    let wasHeld = 0;
    for (let turns = 0; turns < 24; turns += 1) {
      const child = new Probe(t, { rest, token: simulator.token, identify: "refused" });
      const session = await holder.shard.leave();
      const preparing = child.shard.prepare(resumeUrl);
      for (let turn = 0; turn < turns; turn += 1) await new Promise(setImmediate);
      const inTime = child.shard.state === "prepared";
      if (inTime) wasHeld += 1;
      child.shard.resumeAs(session!);
      await ready(child);
      t.is(await preparing, inTime);
      holder = child;
    }
    t.log(`of 24, prepared in time: ${wasHeld}`);
    t.true(wasHeld < 24);
    t.is(simulator.stats().resumes, 24);
    t.is(simulator.stats().identifies, 1);
    await until(() => simulator.stats().connections === 1);
  },
);

test("a prepared connection that died unnoticed: RESUMEd over another one within seconds", async (t) => {
  const { simulator, parent, child } = await family(t);
  await ready(parent);
  await child.shard.prepare(parent.shard.session?.resumeUrl);
  simulator.setTraffic(traffic);
  const session = await parent.shard.leave();
  await until(() => simulator.stats().connections === 1);
  simulator.fault({ kind: "pauseReading", ms: 6_000 });
  const startedAt = performance.now();
  child.shard.resumeAs(session!);
  await ready(child);
  t.log(`RESUMEd after ${(performance.now() - startedAt).toFixed(0)} ms`);
  // The first RESUME is read at last, and takes the session away from the second connection: RESUMEd once more.
  await until(() => simulator.stats().serverCloses[4000] === 1);
  await ready(child);
  await isExact(t, simulator, [parent, child]);
});

test.serial("a connection that has ended sends nothing, not even before its close frame", async (t) => {
  const { simulator, rest } = await simulate(t);
  const nothing = () => {};
  const gatewayUrl = await rest.gatewayUrl();
  const options = { shardId: 0, shardCount: 1, token: simulator.token, intents, gatewayUrl, compress: false };
  const connection = await new Promise<Connection>((resolve) => {
    const made: Connection = new Connection(
      { ...options, held: true },
      {
        onPrepared: () => resolve(made),
        onHello: nothing,
        onReady: nothing,
        onResumed: nothing,
        onDispatch: nothing,
        onEnd: nothing,
        onDebug: nothing,
        session: () => null,
        onSession: nothing,
        waitForIdentify: async () => {},
      },
    );
    made.open();
  });
  const heartbeat = { op: GatewayOpcodes.Heartbeat, d: null } as const;
  await connection.send(heartbeat);
  const ending = connection.end("enough");
  await connection.send(heartbeat);
  await ending;
  t.like(simulator.stats(), { heartbeats: 1, clientCloses: { 4200: 1 } });
});

test.serial(
  "leave to IDENTIFY that comes in the very turn of leaving: no IDENTIFY reaches Discord",
  async (t) => {
    const { simulator, rest } = await simulate(t);
    let grant: (() => void) | undefined;
    const throttler = {
      waitForIdentify: () =>
        new Promise<void>((resolve) => {
          grant = resolve;
        }),
    };
    const probe = new Probe(t, { rest, token: simulator.token, throttler });
    probe.shard.connect();
    await until(() => grant !== undefined);
    grant?.();
    t.is(await probe.shard.leave(), null);
    await until(() => simulator.stats().clientCloses[4200] === 1);
    t.is(simulator.stats().identifies, 0);
    t.is(probe.shard.counts.identifies, 0);
  },
);

test.serial("a full shard gives its session away as well: what it refused comes to the other", async (t) => {
  const { simulator, parent, child } = await family(t);
  await ready(parent);
  await child.shard.prepare(parent.shard.session?.resumeUrl);
  simulator.setTraffic(traffic);
  await until(() => parent.taken.length > 100);
  parent.isFull = true;
  await until(() => parent.shard.state === "paused");
  child.shard.resumeAs((await parent.shard.leave())!);
  await ready(child);
  await isExact(t, simulator, [parent, child]);
});

test.serial("given away by the callback that then says full: the shard stays idle", async (t) => {
  const { simulator, rest } = await simulate(t);
  let leaving: Promise<unknown> | undefined;
  const shard = new Shard({
    ...quietShard,
    rest,
    token: simulator.token,
    onDispatch: () => {
      leaving = shard.leave();
      return false;
    },
    onSession: () => {},
    onFatal: (error) => t.fail(error.message),
  });
  shard.connect();
  await until(() => leaving !== undefined);
  await leaving;
  t.is(shard.state, "idle");
  await shard.close({ resumable: true });
});

test("a gateway that never says HELLO is left for the next attempt, prepared or not", async (t) => {
  const { simulator, rest: healthy } = await simulate(t);
  const waiting = new Probe(t, { rest: healthy, token: simulator.token, identify: "refused" });
  await waiting.shard.prepare();
  const silent = new WebSocketServer({ port: 0, host: "127.0.0.1" });
  t.teardown(() => silent.close());
  await once(silent, "listening");
  const url = `ws://127.0.0.1:${(silent.address() as AddressInfo).port}`;
  const rest = { gatewayUrl: async () => url };
  let connections = 0;
  silent.on("connection", () => {
    connections += 1;
  });
  const prepared = new Probe(t, { rest, token: "none", identify: "refused" });
  const ordinary = new Probe(t, { rest, token: "none" });
  const preparing = prepared.shard.prepare();
  ordinary.shard.connect();
  await until(() => connections === 4);
  t.is(prepared.shard.state, "preparing");
  t.like(ordinary.events[0], { kind: "disconnected", reason: "no HELLO" });
  await prepared.shard.close({ resumable: true });
  t.false(await preparing);
  // One that has said it is waited on for as long as it takes.
  t.is(waiting.shard.state, "prepared");
  t.is(simulator.stats().connectionsOpened, 1);
});
