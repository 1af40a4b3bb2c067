import test from "ava";
import { GuildstreamError } from "../../src/core/errors.js";
import { Probe, settle, simulate, totals, until } from "./probe.js";

const traffic = { ratePerSecond: 2_000, running: true };

test("a shard identifies, takes READY first and every dispatch once, in order", async (t) => {
  const { simulator, rest } = await simulate(t);
  const probe = new Probe(t, { rest, token: simulator.token });
  probe.shard.connect();
  await until(() => probe.shard.state === "ready");
  t.is(probe.taken[0]?.t, "READY");
  simulator.setTraffic(traffic);
  await until(() => probe.taken.length > 500);
  await settle(simulator, [probe]);
  const { taken, sent } = totals(simulator, [probe]);
  t.deepEqual(taken, sent);
  t.true(probe.taken.every(({ s }, index) => s === index + 1));
  t.deepEqual(probe.kinds(), ["ready"]);
  t.is(probe.shard.session?.s, probe.taken.length);
  t.like(probe.shard.counts, { identifies: 1, resumes: 0 });
});

test("also through zlib-stream", async (t) => {
  const { simulator, rest } = await simulate(t);
  const probe = new Probe(t, { rest, token: simulator.token, compress: true });
  probe.shard.connect();
  await until(() => probe.shard.state === "ready");
  simulator.setTraffic(traffic);
  await until(() => probe.taken.length > 300);
  simulator.fault({ kind: "drop" });
  await until(() => probe.kinds().includes("resumed"));
  await settle(simulator, [probe]);
  const { taken, sent } = totals(simulator, [probe]);
  t.deepEqual(taken, sent);
});

for (const [name, fault] of [
  ["a dropped connection", { kind: "drop" }],
  ["close code 4000", { kind: "close", code: 4000 }],
  ["close code 1001", { kind: "close", code: 1001 }],
  ["opcode 7", { kind: "reconnect" }],
  ["a resumable opcode 9", { kind: "invalidSession", resumable: true }],
] as const) {
  test(`${name}: the shard RESUMEs; nothing is lost, nothing comes twice`, async (t) => {
    const { simulator, rest } = await simulate(t);
    const probe = new Probe(t, { rest, token: simulator.token });
    probe.shard.connect();
    await until(() => probe.shard.state === "ready");
    simulator.setTraffic(traffic);
    for (let round = 1; round <= 2; round += 1) {
      const before = probe.taken.length;
      await until(() => probe.taken.length > before + 100);
      simulator.fault(fault);
      await until(() => probe.shard.counts.resumes + probe.shard.counts.identifies > round);
    }
    await settle(simulator, [probe]);
    const { taken, sent } = totals(simulator, [probe]);
    t.deepEqual(taken, sent);
    t.is(new Set(probe.taken.map(({ s }) => s)).size, probe.taken.length);
    t.is(probe.shard.counts.identifies, 1);
    t.false(probe.kinds().includes("invalidated"));
  });
}

test("dispatches that come again with their old sequences are taken once", async (t) => {
  const { simulator, rest } = await simulate(t);
  const probe = new Probe(t, { rest, token: simulator.token });
  probe.shard.connect();
  await until(() => probe.shard.state === "ready");
  simulator.setTraffic(traffic);
  await until(() => probe.taken.length > 200);
  simulator.fault({ kind: "duplicate", count: 50 });
  const before = probe.taken.length;
  await until(() => probe.taken.length > before + 100);
  await settle(simulator, [probe]);
  const { taken, sent } = totals(simulator, [probe]);
  t.deepEqual(taken, sent);
});

test("opcode 9 without resumption: invalidated, then a new session", async (t) => {
  const { simulator, rest } = await simulate(t);
  const probe = new Probe(t, { rest, token: simulator.token });
  probe.shard.connect();
  await until(() => probe.shard.state === "ready");
  const first = probe.shard.session!.sessionId;
  simulator.fault({ kind: "invalidSession" });
  await until(() => probe.kinds().filter((kind) => kind === "ready").length === 2);
  t.deepEqual(probe.kinds(), ["ready", "disconnected", "invalidated", "ready"]);
  t.not(probe.shard.session!.sessionId, first);
  t.is(probe.shard.counts.identifies, 2);
});

test("full: the refused dispatch counts as not received, and RESUME brings it when there is room", async (t) => {
  const { simulator, rest } = await simulate(t);
  const probe = new Probe(t, { rest, token: simulator.token });
  probe.shard.connect();
  await until(() => probe.shard.state === "ready");
  simulator.setTraffic(traffic);
  for (let round = 0; round < 3; round += 1) {
    const before = probe.taken.length;
    await until(() => probe.taken.length > before + 100);
    probe.isFull = true;
    await until(() => probe.shard.state === "paused");
    t.is(probe.shard.session?.s, probe.taken.at(-1)?.s);
    probe.isFull = false;
    probe.shard.resume();
    await until(() => probe.shard.state === "ready");
  }
  await settle(simulator, [probe]);
  const { taken, sent } = totals(simulator, [probe]);
  t.deepEqual(taken, sent);
  t.true(probe.taken.some(({ replayed }) => replayed));
  t.false(probe.taken.at(-1)?.replayed);
  t.like(probe.shard.counts, { identifies: 1, resumes: 3 });
});

test("closed resumably the session goes on in another shard, without an IDENTIFY", async (t) => {
  const { simulator, rest } = await simulate(t);
  const first = new Probe(t, { rest, token: simulator.token });
  first.shard.connect();
  await until(() => first.shard.state === "ready");
  simulator.setTraffic(traffic);
  await until(() => first.taken.length > 300);
  const session = await first.shard.close({ resumable: true });
  const count = first.taken.length;
  t.is(session?.s, first.taken.at(-1)?.s);
  const second = new Probe(t, { rest, token: simulator.token, session });
  second.shard.connect();
  await until(() => second.taken.length > 300);
  t.is(first.taken.length, count);
  await settle(simulator, [first, second]);
  const { taken, sent } = totals(simulator, [first, second]);
  t.deepEqual(taken, sent);
  t.is(second.shard.counts.identifies, 0);
  t.is(second.kinds()[0], "resumed");
});

test("closed for good the session is over", async (t) => {
  const { simulator, rest } = await simulate(t);
  const probe = new Probe(t, { rest, token: simulator.token });
  probe.shard.connect();
  await until(() => probe.shard.state === "ready");
  t.is(await probe.shard.close({ resumable: false }), null);
  t.is(probe.shard.state, "closed");
  probe.shard.connect();
  t.is(probe.shard.state, "closed");
});

test("pause, resume and close at any moment of a start leave one connection at most", async (t) => {
  const { simulator, rest } = await simulate(t);
  for (let delay = 0; delay < 12; delay += 1) {
    const probe = new Probe(t, { rest, token: simulator.token });
    probe.shard.connect();
    for (let tick = 0; tick < delay; tick += 1) await new Promise(setImmediate);
    probe.shard.pause();
    for (let tick = 0; tick < delay % 3; tick += 1) await new Promise(setImmediate);
    probe.shard.resume();
    for (let tick = 0; tick < delay; tick += 1) await new Promise(setImmediate);
    await probe.shard.close({ resumable: true });
    t.is(probe.shard.state, "closed");
  }
  const last = new Probe(t, { rest, token: simulator.token });
  last.shard.connect();
  await until(() => last.shard.state === "ready");
  await until(() => simulator.stats().connections === 1);
  t.pass();
});

test("a session of another shard count is not resumed", async (t) => {
  const { simulator, rest } = await simulate(t);
  const session = { sessionId: "old", resumeUrl: "ws://127.0.0.1:1", s: 5, shardCount: 2 };
  const probe = new Probe(t, { rest, token: simulator.token, session });
  probe.shard.connect();
  await until(() => probe.shard.state === "ready");
  t.deepEqual(probe.kinds(), ["ready"]);
});

test("a resume URL that does not answer is given up for the gateway's own; the session is kept", async (t) => {
  const { simulator, rest } = await simulate(t);
  const first = new Probe(t, { rest, token: simulator.token });
  first.shard.connect();
  await until(() => first.shard.state === "ready");
  const session = await first.shard.close({ resumable: true });
  const moved = { ...session!, resumeUrl: "ws://127.0.0.1:9" };
  const second = new Probe(t, { rest, token: simulator.token, session: moved });
  second.shard.connect();
  await until(() => second.shard.state === "ready");
  t.is(second.kinds().at(-1), "resumed");
  t.is(second.shard.session?.resumeUrl, "ws://127.0.0.1:9");
  t.is(second.shard.counts.identifies, 0);
});

test("a gateway that is away is tried again until it is back", async (t) => {
  const { simulator, rest } = await simulate(t);
  let asked = 0;
  const flaky = {
    gatewayUrl: () => {
      asked += 1;
      return asked < 3 ? Promise.reject(new Error("away")) : rest.gatewayUrl();
    },
  };
  const probe = new Probe(t, { rest: flaky, token: simulator.token });
  probe.shard.connect();
  await until(() => probe.shard.state === "ready");
  t.is(asked, 3);
  t.is(probe.fatal, undefined);
});

test("a wrong token is fatal", async (t) => {
  const { simulator, rest } = await simulate(t);
  const probe = new Probe(t, { rest, token: "wrong" });
  probe.shard.connect();
  await until(() => probe.fatal !== undefined);
  t.is(probe.fatal?.code, "DISCORD_TOKEN_INVALID");
  t.is(probe.shard.state, "failed");
  t.is(simulator.stats().connections, 0);
});

test("an intent that is not granted is fatal, with the page to grant it", async (t) => {
  const { simulator, rest } = await simulate(t, { disallowedIntents: 2 });
  const probe = new Probe(t, { rest, token: simulator.token });
  probe.shard.connect();
  await until(() => probe.fatal !== undefined);
  t.is(probe.fatal?.code, "GATEWAY_CLOSED");
  t.regex(probe.fatal?.message ?? "", /4014/);
  t.regex(probe.fatal?.hint ?? "", /Message Content.*developers/);
});

test("leave to IDENTIFY that is refused for good is fatal; no IDENTIFY leaves", async (t) => {
  const { simulator, rest } = await simulate(t);
  const refused = new GuildstreamError("IDENTIFY_LIMIT", "none left today");
  const throttler = { waitForIdentify: () => Promise.reject(refused) };
  const probe = new Probe(t, { rest, token: simulator.token, throttler });
  probe.shard.connect();
  await until(() => probe.fatal !== undefined);
  t.is(probe.fatal, refused);
  t.is(probe.shard.counts.identifies, 0);
  t.is(probe.shard.session, null);
});

test("a connection that ends while it waits for leave to IDENTIFY gives its place up", async (t) => {
  const { simulator, rest } = await simulate(t);
  let aborted = 0;
  let asked = 0;
  const throttler = {
    waitForIdentify: (_shard: number, signal: AbortSignal) => {
      asked += 1;
      if (asked > 1) return Promise.resolve();
      return new Promise<void>((_, reject) => {
        signal.addEventListener("abort", () => {
          aborted += 1;
          reject(signal.reason);
        });
      });
    },
  };
  const probe = new Probe(t, { rest, token: simulator.token, throttler });
  probe.shard.connect();
  await until(() => asked === 1);
  simulator.fault({ kind: "drop" });
  await until(() => probe.shard.state === "ready");
  t.is(aborted, 1);
  t.is(asked, 2);
});
