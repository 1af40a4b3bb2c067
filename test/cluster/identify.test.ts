/**
 * Leave to IDENTIFY, by real compare-and-set on a real list-server: workers race, die, have wrong clocks; the day is
 * spent; Discord or the list-server is away. What arrives at the gateway is in scenario/identify.test.ts.
 */
import { type AddressInfo, connect, createServer } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import test, { type ExecutionContext } from "ava";
import { pino } from "pino";
import { IdentifyBudget } from "../../src/cluster/identify.js";
import { ClusterList } from "../../src/cluster/list.js";
import { GuildstreamError } from "../../src/core/errors.js";
import type { SessionStartLimit } from "../../src/core/identify.js";
import { limits } from "../../src/core/limits.js";
import type { WorkerEntry } from "../../src/core/members.js";
import { clusterKeys } from "../../src/core/subjects.js";
import { createRest } from "../../src/discord/rest.js";
import { connectNats } from "../../src/nats/connect.js";
import { ensureStreams } from "../../src/nats/definitions.js";
import type { EmbeddedServer } from "../../src/nats/embedded.js";
import { type SimulatorOptions, startSimulator } from "../../src/simulator/index.js";
import { until } from "../helpers/cluster.js";
import { putEntry, workerEntryOf } from "../helpers/entries.js";
import { withServer } from "../helpers/nats.js";

const intervalMs = 300;
const turnMs = intervalMs + limits.identifyMarginMs;

interface Line {
  level: number;
  event?: string;
  hint?: string;
  shards?: number[];
  resetInMs?: number;
}

interface Stage {
  server: EmbeddedServer;
  /** Leaves given so far, whoever got them, in their order. */
  given: { shard: number; by: string; atMs: number }[];
  lines: Line[];
  list: ClusterList;
  member(id: string, how?: MemberOptions): Promise<Member>;
}

interface MemberOptions {
  ask?: () => Promise<SessionStartLimit>;
  natsUrl?: string;
  /** Does not tell the others which of its shards wait. */
  isSilent?: boolean;
}

interface Member {
  budget: IdentifyBudget;
  /** Waits for leave in the background. */
  waits(...shards: number[]): void;
  /** As after SIGKILL: nothing comes from it any more. */
  dies(): Promise<void>;
}

async function stage(t: ExecutionContext, options: SimulatorOptions = {}): Promise<Stage> {
  const server = await withServer(t);
  const simulator = await startSimulator({ guilds: 1, paused: true, ...options });
  t.teardown(() => simulator.close());
  const lines: Line[] = [];
  const log = pino(
    { level: "debug" },
    { write: (line: string) => void lines.push(JSON.parse(line) as Line) },
  );
  const rest = createRest({ token: simulator.token, apiUrl: simulator.apiUrl, log });
  t.teardown(() => rest.close());
  const own = await connectNats({ url: server.url, name: "test" });
  t.teardown(() => own.close());
  await ensureStreams(own);
  const list = await ClusterList.open(own, log);
  t.teardown(() => list.stop());
  const given: Stage["given"] = [];
  const member: Stage["member"] = async (id, how = {}) => {
    const { ask = () => rest.sessionStartLimit(), natsUrl = server.url, isSilent = false } = how;
    const nc = await connectNats({ url: natsUrl, name: id });
    t.teardown(() => nc.close());
    const list = await ClusterList.open(nc, log);
    t.teardown(() => list.stop());
    const budget = new IdentifyBudget({
      list,
      by: id,
      ask,
      log,
      onWaitingChanged: () => void list.beat(),
      intervalMs,
    });
    await list.announce(clusterKeys.worker(id), () => entryOf(id, isSilent ? [] : budget.waiting));
    const life = new AbortController();
    t.teardown(() => life.abort());
    return {
      budget,
      waits: (...shards) => {
        for (const shard of shards) {
          budget.waitForIdentify(shard, life.signal).then(
            () => given.push({ shard, by: id, atMs: performance.now() }),
            () => {},
          );
        }
      },
      dies: async () => {
        life.abort();
        list.stop();
        await nc.close();
      },
    };
  };
  return { server, given, lines, list, member };
}

function entryOf(id: string, identifying: number[]): WorkerEntry {
  return workerEntryOf(id, { offline: { connecting: [], identifying, paused: [] } });
}

/** A way to the list-server on which answers can be made slow. */
async function slowWay(t: ExecutionContext, port: number): Promise<{ url: string; delayMs: number }> {
  const way = { url: "", delayMs: 0 };
  const proxy = createServer((client) => {
    const upstream = connect(port, "127.0.0.1");
    client.on("error", () => upstream.destroy());
    upstream.on("error", () => client.destroy());
    client.pipe(upstream);
    let inOrder: Promise<unknown> = Promise.resolve();
    upstream.on("data", (data) => {
      const late = delay(way.delayMs);
      inOrder = inOrder.then(() => late).then(() => client.write(data));
    });
    upstream.on("close", () => client.destroy());
    t.teardown(() => void client.destroy());
  });
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  t.teardown(() => proxy.close());
  way.url = `nats://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
  return way;
}

function shortestGapMs(given: Stage["given"]): number {
  return Math.min(...given.slice(1).map(({ atMs }, i) => atMs - given[i]!.atMs));
}

test("three workers race for one bucket: one leave a turn, the lowest shard first, each counted", async (t) => {
  const { given, list, member } = await stage(t, { maxConcurrency: 1, identifyLimit: 100 });
  const members = await Promise.all(["a", "b", "c"].map((id) => member(id)));
  for (const [i, worker] of members.entries()) worker.waits(i + 6, i + 3, i);
  await until("nine leaves", () => given.length === 9);
  t.log(`shortest gap ${Math.round(shortestGapMs(given))} ms`);
  t.true(shortestGapMs(given) >= intervalMs + limits.identifyMarginMs - limits.identifyUseWithinMs);
  t.deepEqual(
    given.map(({ shard }) => shard),
    [0, 1, 2, 3, 4, 5, 6, 7, 8],
  );
  t.is(list.identifyDaily()?.remaining, 91);
});

test("also when none knows that others wait, one of them gets the turn", async (t) => {
  const { given, list, member } = await stage(t, { maxConcurrency: 1, identifyLimit: 100 });
  const ids = ["a", "b", "c", "d"];
  const members = await Promise.all(ids.map((id) => member(id, { isSilent: true })));
  for (const [i, worker] of members.entries()) worker.waits(i, i + 4);
  await until("eight leaves", () => given.length === 8);
  t.true(shortestGapMs(given) >= intervalMs + limits.identifyMarginMs - limits.identifyUseWithinMs);
  await until("what was lost given back", () => list.identifyDaily()?.remaining === 92);
});

test("buckets of a max_concurrency do not wait for each other", async (t) => {
  const { given, member } = await stage(t, { maxConcurrency: 4 });
  const worker = await member("a");
  worker.waits(0, 1, 2, 3, 4, 5, 6, 7);
  await until("eight leaves", () => given.length === 8);
  const at = given.map(({ atMs }) => atMs);
  t.true(at[3]! - at[0]! < 2 * turnMs, "four at once");
  t.true(at[4]! - at[3]! >= intervalMs);
  t.deepEqual(given.map(({ shard }) => shard % 4).sort(), [0, 0, 1, 1, 2, 2, 3, 3]);
});

test("a turn taken by a machine whose clock is wrong counts as taken just now, neither longer nor shorter", async (t) => {
  for (const wrongMs of [-86_400_000, 86_400_000]) {
    const { given, list, member } = await stage(t);
    await putEntry(list, clusterKeys.identify(0), { shard: 5, by: "elsewhere", at: Date.now() + wrongMs });
    const startedAtMs = performance.now();
    const worker = await member("a");
    worker.waits(0);
    await until("leave", () => given.length === 1);
    const waitedMs = given[0]!.atMs - startedAtMs;
    t.true(waitedMs >= turnMs && waitedMs < 3 * turnMs, `${Math.round(waitedMs)} ms`);
  }
});

test("a worker that dies with a turn in hand costs one interval", async (t) => {
  const { given, member } = await stage(t);
  const [dying, other] = await Promise.all([member("a"), member("b")]);
  dying.waits(0);
  await until("its leave", () => given.length === 1);
  await dying.dies();
  other.waits(1);
  await until("the other's", () => given.length === 2);
  const gapMs = shortestGapMs(given);
  t.true(gapMs >= intervalMs && gapMs < 2 * turnMs + limits.identifyHeadStartMs, `${Math.round(gapMs)} ms`);
});

test("a turn whose taking took too long is not used, and its count is given back", async (t) => {
  const { server, given, list, member } = await stage(t);
  const way = await slowWay(t, server.port);
  const worker = await member("a", { natsUrl: way.url });
  way.delayMs = limits.identifyUseWithinMs + 100;
  let turns = 0;
  list.onChange((key) => {
    if (key === clusterKeys.identify(0)) turns += 1;
  });
  worker.waits(0);
  await until("two turns taken", () => turns === 2);
  t.is(given.length, 0, "others time their turns since those were written");
  way.delayMs = 0;
  await until("leave", () => given.length === 1);
  await until("what was not used given back", () => list.identifyDaily()?.remaining === 999);
});

test("a lower shard whose worker is stuck holds nobody up for more than its head start", async (t) => {
  const { given, list, member } = await stage(t);
  const stuck = entryOf("stuck", [0]);
  const beat = setInterval(() => void putEntry(list, clusterKeys.worker("stuck"), stuck), 500);
  t.teardown(() => clearInterval(beat));
  await putEntry(list, clusterKeys.worker("stuck"), stuck);
  const worker = await member("a");
  const startedAtMs = performance.now();
  worker.waits(1, 2);
  await until("leaves", () => given.length === 2);
  t.true(given[0]!.atMs - startedAtMs >= limits.identifySettleMs + limits.identifyHeadStartMs);
  t.true(given[1]!.atMs - given[0]!.atMs < turnMs + limits.identifyHeadStartMs + intervalMs);
});

test("who gives up before its turn is not counted", async (t) => {
  const { given, list, member } = await stage(t);
  const worker = await member("a");
  worker.waits(0);
  await until("leave", () => given.length === 1);
  const control = new AbortController();
  const waiting = worker.budget.waitForIdentify(1, control.signal);
  t.deepEqual(worker.budget.waiting, [1]);
  control.abort(new Error("closed"));
  await t.throwsAsync(waiting, { message: "closed" });
  t.deepEqual(worker.budget.waiting, []);
  worker.waits(2);
  await until("the next one's", () => given.length === 2);
  t.is(list.identifyDaily()?.remaining, 998);
});

test("many workers asking share one day: no more leaves than Discord has, and after its reset they go on", async (t) => {
  // Discord counts no IDENTIFY here, so its answer stays at three: the shared count alone keeps to it.
  const options = { maxConcurrency: 16, identifyLimit: 3, identifyResetMs: 6_000 };
  const { given, lines, list, member } = await stage(t, options);
  const members = await Promise.all(["a", "b", "c"].map((id) => member(id)));
  for (const [i, worker] of members.entries()) worker.waits(i, i + 3);
  await until("three leaves", () => given.length === 3);
  await until("a loud word", () => lines.some((line) => line.event === "identify_limit_spent"));
  const said = lines.find((line) => line.event === "identify_limit_spent")!;
  t.is(said.level, 50);
  t.regex(said.hint ?? "", /leave the other workers running/);
  t.true(said.resetInMs! > 0 && said.resetInMs! <= 6_000);
  t.is(list.identifyDaily()?.remaining, 0);
  await until("everybody's announcement", () => {
    const waiting = [...list.workers().values()].flatMap((worker) => worker.offline.identifying);
    return waiting.length === 3;
  });
  t.is(given.length, 3);
  await until("the others after the reset", () => given.length === 6);
  t.true(given[3]!.atMs - given[2]!.atMs > 1_000);
  t.deepEqual(given.map(({ shard }) => shard).sort(), [0, 1, 2, 3, 4, 5]);
});

test("Discord away: the shards wait, and go on when it answers; a refused token is told to them", async (t) => {
  const { given, lines, member } = await stage(t);
  let asked = 0;
  const limit = { total: 10, remaining: 10, resetAfterMs: 60_000, resetAt: Date.now(), maxConcurrency: 1 };
  const ask = () => {
    asked += 1;
    return asked < 3
      ? Promise.reject(new GuildstreamError("DISCORD_UNREACHABLE", "away"))
      : Promise.resolve(limit);
  };
  const worker = await member("a", { ask });
  worker.waits(0);
  await until("leave", () => given.length === 1);
  t.is(asked, 3);
  t.true(lines.some((line) => line.event === "identify_waits"));

  const refused = new GuildstreamError("DISCORD_TOKEN_INVALID", "refused");
  const other = await member("b", { ask: () => Promise.reject(refused) });
  const error = await t.throwsAsync(other.budget.waitForIdentify(1, new AbortController().signal));
  t.is(error, refused);
});

test("the list-server away, then back, then wiped: turns go on, never two at once", async (t) => {
  const { server, given, list, member } = await stage(t);
  const [one, two] = await Promise.all([member("a"), member("b")]);
  one.waits(0, 2, 4, 6);
  two.waits(1, 3, 5, 7);
  await until("two leaves", () => given.length === 2);
  await server.kill();
  await server.restart();
  await until("two more", () => given.length === 4);
  for (const key of [clusterKeys.identify(0), clusterKeys.identifyDaily]) {
    await list.delete(key, (await list.get(key))!.revision);
  }
  await until("all", () => given.length === 8);
  t.true(shortestGapMs(given) >= intervalMs, `${Math.round(shortestGapMs(given))} ms`);
  t.deepEqual(given.map(({ shard }) => shard).sort(), [0, 1, 2, 3, 4, 5, 6, 7]);
});
