/**
 * Stories of a worker in this process, on a real nats-server, a real database node and the simulator: what a bot's
 * code can do wrong, what memory pressure does, what another writer does.
 */
import test, { type ExecutionContext } from "ava";
import { pino } from "pino";
import { ClusterList } from "../../src/cluster/list.js";
import { type AnyBot, defineBot } from "../../src/core/bot.js";
import { encodeEvent } from "../../src/core/event.js";
import { limits } from "../../src/core/limits.js";
import { getReply } from "../../src/core/members.js";
import { clusterKeys, dbnodeSubjects, guildSubject } from "../../src/core/subjects.js";
import { runDbnode } from "../../src/dbnode/dbnode.js";
import { connectNats } from "../../src/nats/connect.js";
import { ensureStreams } from "../../src/nats/definitions.js";
import { GuildLog } from "../../src/nats/guild-log.js";
import { requestJson } from "../../src/nats/messages.js";
import { type Simulator, startSimulator } from "../../src/simulator/index.js";
import { type RunningWorker, runWorker } from "../../src/worker/worker.js";
import { until } from "../helpers/cluster.js";
import { tempDir, withServer } from "../helpers/nats.js";

interface Line {
  event?: string;
  code?: string;
  guildId?: string;
}

interface Stage {
  simulator: Simulator;
  lines: Line[];
  url: string;
  start(bot: AnyBot, options?: { memoryBytes?: number }): Promise<RunningWorker>;
  stateOf(guildId: string): Promise<Record<string, unknown> | undefined>;
}

async function stage(t: ExecutionContext, maxPayloadBytes?: number): Promise<Stage> {
  const server = await withServer(t, maxPayloadBytes === undefined ? {} : { maxPayloadBytes });
  const simulator = await startSimulator({
    guilds: 5,
    maxConcurrency: 16,
    identifyIntervalMs: 100,
    paused: true,
  });
  t.teardown(() => simulator.close());
  const lines: Line[] = [];
  const log = pino(
    { level: "debug" },
    { write: (line: string) => void lines.push(JSON.parse(line) as Line) },
  );
  const nodeNc = await connectNats({ url: server.url, name: "db-1" });
  await ensureStreams(nodeNc);
  const node = await runDbnode({ id: "db-1", nc: nodeNc, dataDir: await tempDir(t), log });
  const list = await ClusterList.open(nodeNc, log);
  const member = {
    id: "db-1",
    incarnation: "1",
    status: "ready" as const,
    version: "0",
    host: "test",
    pid: process.pid,
  };
  await list.announce(clusterKeys.dbnode("db-1"), () => ({
    ...member,
    at: 0,
    rssBytes: 0,
    ...node.status(),
  }));
  t.teardown(async () => {
    list.stop();
    await node.stop();
    await nodeNc.close();
  });
  return {
    simulator,
    lines,
    url: server.url,
    start: async (bot, options = {}) => {
      const nc = await connectNats({ url: server.url, name: "worker-1" });
      const worker = await runWorker({
        id: "worker-1",
        nc,
        discordApi: simulator.apiUrl,
        token: simulator.token,
        bot,
        shards: 1,
        memoryBytes: options.memoryBytes ?? 100_000_000,
        version: "0",
        log,
      });
      t.teardown(async () => {
        await worker.stop();
        await nc.close();
      });
      await worker.ready;
      return worker;
    },
    stateOf: async (guildId) => {
      const request = { v: 1, guildId, atLeastSeq: 0 };
      const reply = await requestJson(nodeNc, dbnodeSubjects.get("db-1"), request, getReply, 5_000);
      return reply?.outcome === "found" ? (reply.document.state as Record<string, unknown>) : undefined;
    },
  };
}

async function dispatch(simulator: Simulator, guildId: string): Promise<void> {
  const response = await fetch(`${simulator.url}/control/dispatch`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ guildId, t: "MESSAGE_CREATE" }),
  });
  if (!response.ok) throw new Error(await response.text());
}

const messageIntents = 1 | (1 << 9);

function counter(onMessage: (state: { n: number; filler?: string }) => void | Promise<void>): AnyBot {
  return defineBot<{ n: number; filler?: string }>({
    name: "story",
    intents: messageIntents,
    state: { version: 1, initial: () => ({ n: 0 }) },
    on: { MESSAGE_CREATE: ({ state }) => onMessage(state) },
  });
}

const countMessages = counter((state) => {
  state.n += 1;
});

test("a handler that throws leaves the state untouched, is reported, and the worker lives on", async (t) => {
  const { simulator, start, stateOf, lines } = await stage(t);
  let calls = 0;
  await start(
    counter((state) => {
      calls += 1;
      state.n += 1;
      if (calls === 2) throw new Error("second one");
    }),
  );
  const guildId = simulator.guildIds[0]!;
  for (let n = 0; n < 3; n += 1) await dispatch(simulator, guildId);
  await until("three handled", () => calls === 3);
  await until("saved", async () => (await stateOf(guildId))?.n === 2);
  const report = lines.find((line) => line.event === "handler_failed");
  t.is(report?.guildId, guildId);
});

test("asynchronous handlers of one guild run one after the other, in order", async (t) => {
  const { simulator, start, stateOf } = await stage(t);
  let running = 0;
  let overlapped = false;
  await start(
    counter(async (state) => {
      running += 1;
      overlapped ||= running > 1;
      const before = state.n;
      await new Promise((resolve) => setImmediate(resolve));
      state.n = before + 1;
      running -= 1;
    }),
  );
  const guildId = simulator.guildIds[0]!;
  for (let n = 0; n < 20; n += 1) await dispatch(simulator, guildId);
  await until("all saved", async () => (await stateOf(guildId))?.n === 20);
  t.false(overlapped);
});

test("a state over the server's max_payload is refused at the mutation; the guild goes on", async (t) => {
  const { simulator, start, stateOf, lines } = await stage(t, 1_048_576);
  let calls = 0;
  await start(
    counter((state) => {
      calls += 1;
      state.n += 1;
      if (calls === 2) state.filler = "x".repeat(2_000_000);
    }),
  );
  const guildId = simulator.guildIds[0]!;
  for (let n = 0; n < 3; n += 1) await dispatch(simulator, guildId);
  await until("saved", async () => (await stateOf(guildId))?.n === 2);
  t.is(lines.find((line) => line.event === "handler_failed")?.code, "GUILD_TOO_LARGE");
});

test("clean guilds leave memory under pressure and come back with their state", async (t) => {
  const { simulator, start, stateOf } = await stage(t);
  const worker = await start(
    counter((state) => {
      state.n += 1;
    }),
    { memoryBytes: 1 },
  );
  for (const round of [1, 2]) {
    for (const guildId of simulator.guildIds) await dispatch(simulator, guildId);
    for (const guildId of simulator.guildIds) {
      await until(`round ${round} saved`, async () => (await stateOf(guildId))?.n === round);
    }
    await until("memory empty", () => worker.status().guilds === 0);
  }
  t.pass();
});

test("a guild whose own change fills memory does not leave in the middle of it", async (t) => {
  const { simulator, start, stateOf, lines } = await stage(t);
  const worker = await start(
    counter(async (state) => {
      await new Promise((resolve) => setTimeout(resolve, limits.guildEvictFullIdleMs * 2));
      state.n += 1;
      state.filler = "x".repeat(5_000);
    }),
    { memoryBytes: 10_000 },
  );
  const guildId = simulator.guildIds[0]!;
  await dispatch(simulator, guildId);
  await until("saved", async () => (await stateOf(guildId))?.n === 1);
  await until("it leaves afterwards", () => worker.status().guilds === 0);
  t.true(lines.some((line) => line.event === "memory_full"));
  await worker.stop();
  t.false(lines.some((line) => line.event === "shard_left_unfinished"));
});

test("a foreign claim fences the guild; its shard's owner takes it back and loses nothing", async (t) => {
  const { simulator, start, stateOf, url } = await stage(t);
  const worker = await start(
    counter((state) => {
      state.n += 1;
    }),
  );
  const guildId = simulator.guildIds[0]!;
  await dispatch(simulator, guildId);
  await until("saved", async () => (await stateOf(guildId))?.n === 1);

  const nc = await connectNats({ url, name: "foreign" });
  t.teardown(() => nc.close());
  const foreign = new GuildLog(nc, "foreign.1");
  t.teardown(() => foreign.close());
  const last = (await foreign.readLast(guildSubject(guildId)))!;
  const place = { rev: last.message.rev + 1, epoch: last.message.epoch + 1, by: foreign.incarnation };
  const cause = { shard: 0, session: "elsewhere", s: 1, t: "MESSAGE_CREATE" };
  const opsJson = '{"op":"replace","path":"/n","value":101}';
  const payload = encodeEvent({ ...place, at: 0, opsJson, cause, effects: [] });
  const claim = { ...place, messageId: foreign.newMessageId(), expectedSeq: last.seq };
  await new Promise((resolve) =>
    foreign.append({ subject: guildSubject(guildId), kind: "event", payload, claim }, resolve),
  );

  await dispatch(simulator, guildId);
  await until("on top of the foreign write", async () => (await stateOf(guildId))?.n === 102);
  t.is(worker.status().fenced, 1);
});

test("an older bot's state is migrated on load; a newer one is refused and left as it is", async (t) => {
  const { simulator, start, stateOf, lines } = await stage(t);
  const guildId = simulator.guildIds[0]!;
  const first = await start(countMessages);
  await dispatch(simulator, guildId);
  await until("saved", async () => (await stateOf(guildId))?.n === 1);
  await first.stop();

  const second = await start(
    defineBot<{ total: number }>({
      name: "story",
      intents: messageIntents,
      state: {
        version: 2,
        initial: () => ({ total: 0 }),
        migrate: (state) => ({ total: (state as { n: number }).n }),
      },
      on: {
        MESSAGE_CREATE: ({ state }) => {
          state.total += 1;
        },
      },
    }),
  );
  await dispatch(simulator, guildId);
  await until("migrated", async () => (await stateOf(guildId))?.total === 2);
  await second.stop();

  await start(countMessages);
  await dispatch(simulator, guildId);
  await until("refused", () => lines.some((line) => line.event === "guild_load_failed"));
  t.deepEqual(await stateOf(guildId), { $version: 2, total: 2 });
});
