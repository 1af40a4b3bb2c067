/**
 * What a move of a session costs: the gap that can be seen, measured between two processes, and what stays behind in
 * one process after many moves.
 */
import { createHook } from "node:async_hooks";
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { queryObjects } from "node:v8";
import test, { type ExecutionContext } from "ava";
import { Connection } from "../../src/discord/connection.js";
import { Probe, settle, simulate, totals, until } from "./probe.js";
import { startRelay } from "./relay.js";
import type { Answer, Order } from "./shard-process.js";

/** A process with one shard; see shard-process.ts. */
class Peer {
  readonly #process: ChildProcess;

  constructor(t: ExecutionContext, gatewayUrl: string, token: string) {
    const file = fileURLToPath(new URL("./shard-process.js", import.meta.url));
    this.#process = fork(file, [gatewayUrl, token]);
    t.teardown(() => void this.#process.kill("SIGKILL"));
  }

  async tell<D extends Order["do"]>(order: Order & { do: D }): Promise<Answer & { did: D }> {
    const answer = once(this.#process, "message");
    this.#process.send(order);
    return (await answer)[0];
  }
}

interface Move {
  /** The session was given away, it was RESUMEd by the other, and both together: all in ms. */
  leaveMs: number;
  resumeMs: number;
  totalMs: number;
  startedAt: number;
}

async function move(from: Peer, to: Peer, by: "leave" | "close", url: string): Promise<Move> {
  await to.tell({ do: "prepare", url });
  const left = await from.tell({ do: "leave", by });
  const resumed = await to.tell({ do: "resume", session: left.session });
  return {
    leaveMs: left.doneAt - left.calledAt,
    resumeMs: resumed.resumedAt - resumed.calledAt,
    totalMs: resumed.resumedAt - left.calledAt,
    startedAt: left.calledAt,
  };
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;
}

function show(values: number[]): string {
  return `median ${median(values).toFixed(1)}, most ${Math.max(...values).toFixed(1)}`;
}

/** The same clock as in the other processes. */
function nowMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

/** Looked at for the longest gap from a little before a move begins, and as long in steady traffic. */
const windowMs = 300;

function gaps(at: number[], moments: number[]): number[] {
  return moments.map((from) => {
    const within = at.filter((time) => time >= from - 20 && time <= from + windowMs);
    return Math.max(...within.slice(1).map((time, index) => time - within[index]!));
  });
}

/** Moves the session `moves` times between two processes, with 1,000 dispatches a second under way; logs figures. */
async function moveBackAndForth(
  t: ExecutionContext,
  { moves, by, delayMs }: { moves: number; by: "leave" | "close"; delayMs: number },
): Promise<Move[]> {
  const { simulator } = await simulate(t, { guilds: 100 });
  const url =
    delayMs === 0 ? simulator.url.replace("http", "ws") : await startRelay(t, simulator.port, delayMs);
  const peers = [0, 1].map(() => new Peer(t, url, simulator.token)) as [Peer, Peer];
  const { session } = await peers[0].tell({ do: "connect" });
  simulator.setTraffic({ ratePerSecond: 1_000, running: true });
  const steadyFrom = nowMs() + windowMs;
  const steadyMoments = Array.from({ length: moves }, (_, index) => steadyFrom + index * windowMs);
  await until(() => nowMs() > steadyFrom + moves * windowMs);
  const done: Move[] = [];
  for (let index = 0; index < moves; index += 1) {
    const [from, to] = index % 2 === 0 ? peers : [peers[1], peers[0]];
    const one = await move(from, to, by, session.resumeUrl);
    await until(() => nowMs() > one.startedAt + windowMs);
    done.push(one);
  }
  simulator.setTraffic({ running: false });
  const last = () => simulator.stats().sessions[0]!.s;
  let taken: [number, number][] = [];
  do {
    const reports = await Promise.all(peers.map((peer) => peer.tell({ do: "report" })));
    taken = reports.flatMap((report) => report.taken).sort(([a], [b]) => a - b);
  } while (taken.at(-1)![0] < last());

  // Every sequence once but for RESUMED: 0 lost, 0 doubled, and dispatches in their order over both processes.
  t.deepEqual(
    taken.map(([s]) => s),
    Array.from({ length: last() }, (_, index) => index + 1),
  );
  const at = taken.map(([, time]) => time);
  t.true(at.every((time, index) => index === 0 || time >= at[index - 1]!));
  t.like(simulator.stats(), { identifies: 1, resumes: moves, connectionsOpened: moves + 1 });
  const moments = done.map(({ startedAt }) => startedAt);
  t.log(
    `by ${by}, ${delayMs * 2} ms there and back: given away in ${show(done.map((one) => one.leaveMs))} ms,`,
    `RESUMED after ${show(done.map((one) => one.resumeMs))} ms, both ${show(done.map((one) => one.totalMs))} ms;`,
    `longest gap ${show(gaps(at, moments))} ms, in steady traffic ${show(gaps(at, steadyMoments))} ms`,
  );
  return done;
}

test.serial(
  "between two processes: nothing lost, nothing twice, one IDENTIFY, no gap that shows",
  async (t) => {
    await moveBackAndForth(t, { moves: 12, by: "leave", delayMs: 0 });
  },
);

test.serial("over a distance leaving saves the round trip that closing waits for", async (t) => {
  const options = { moves: 4, delayMs: 25 };
  const left = await moveBackAndForth(t, { ...options, by: "leave" });
  const closed = await moveBackAndForth(t, { ...options, by: "close" });
  const of = (moves: Move[]) => median(moves.map(({ totalMs }) => totalMs));
  t.true(of(left) + options.delayMs < of(closed), `${of(left)} ms by leave, ${of(closed)} ms by close`);
});

test.serial(
  "sixteen shards move one by one: one at a time is between two processes, the others go on",
  async (t) => {
    const shardCount = 16;
    const { simulator, rest } = await simulate(t, {
      guilds: 160,
      shards: shardCount,
      maxConcurrency: shardCount,
    });
    const shards = Array.from({ length: shardCount }, (_, shardId) => {
      const common = { rest, token: simulator.token, shardId, shardCount };
      return { parent: new Probe(t, common), child: new Probe(t, { ...common, identify: "refused" }) };
    });
    for (const { parent } of shards) parent.shard.connect();
    await until(() => shards.every(({ parent }) => parent.shard.state === "ready"));
    simulator.setTraffic({ ratePerSecond: 2_000, running: true });
    const url = shards[0]!.parent.shard.session!.resumeUrl;
    t.deepEqual(
      new Set(await Promise.all(shards.map(({ child }) => child.shard.prepare(url)))),
      new Set([true]),
    );
    const tookMs: number[] = [];
    for (const { parent, child } of shards) {
      const startedAt = performance.now();
      child.shard.resumeAs((await parent.shard.leave())!);
      const off = () => simulator.stats().sessions.filter(({ connected }) => !connected).length;
      t.true(off() <= 1);
      await until(() => child.shard.state === "ready");
      tookMs.push(performance.now() - startedAt);
      t.is(off(), 0);
    }
    t.log(`a move took ${show(tookMs)} ms`);
    const probes = shards.flatMap(({ parent, child }) => [parent, child]);
    await settle(simulator, probes);
    const { taken, sent } = totals(simulator, probes);
    t.deepEqual(taken, sent);
    t.true(shards.every(({ child }) => child.taken.length > 0));
    await until(() => simulator.stats().connections === shardCount);
    t.like(simulator.stats(), {
      identifies: shardCount,
      resumes: shardCount,
      connectionsOpened: 2 * shardCount,
    });
  },
);

/** Counts what is open in this process: also timers that keep nothing alive, which `process` does not tell of. */
function countHandles(t: ExecutionContext): () => Record<string, number> {
  const open = new Map<number, string>();
  const hook = createHook({
    init: (id, type) => void (/^(Timeout|TCPWRAP|TCPSERVERWRAP)$/.test(type) && open.set(id, type)),
    destroy: (id) => void open.delete(id),
  }).enable();
  t.teardown(() => hook.disable());
  return () => {
    const counts: Record<string, number> = { connections: queryObjects(Connection) as unknown as number };
    for (const name of process.eventNames()) counts[`process ${String(name)}`] = process.listenerCount(name);
    for (const type of open.values()) counts[type] = (counts[type] ?? 0) + 1;
    return counts;
  };
}

for (const compress of [false, true]) {
  const over = compress ? ", through zlib-stream" : "";
  test.serial(`fifty moves there and back leave nothing behind: no socket, no timer${over}`, async (t) => {
    const handles = countHandles(t);
    const { simulator } = await simulate(t, { guilds: 20, heartbeatIntervalMs: 20_000 });
    const gatewayUrl = simulator.url.replace("http", "ws");
    // Not asked over HTTP: its sockets stay open for a while.
    const options = { rest: { gatewayUrl: async () => gatewayUrl }, token: simulator.token, compress };
    const probes = [new Probe(t, options), new Probe(t, { ...options, identify: "refused" })] as const;
    probes[0].shard.connect();
    await until(() => probes[0].shard.state === "ready");
    simulator.setTraffic({ ratePerSecond: 1_000, running: true });
    const counts: Record<string, number>[] = [];
    for (let round = 1; round <= 55; round += 1) {
      const [from, to] = round % 2 === 1 ? probes : [probes[1], probes[0]];
      const before = to.taken.length;
      t.true(await to.shard.prepare(gatewayUrl));
      to.shard.resumeAs((await from.shard.leave())!);
      await until(() => to.taken.length > before + 5 && to.shard.state === "ready");
      if (round !== 5 && round !== 55) continue;
      await until(() => simulator.stats().connections === 1);
      await new Promise(setImmediate);
      counts.push(handles());
    }
    t.log("after 5 moves", counts[0], "after 55", counts[1]);
    // What a timer of the moment or of the test itself makes; a move that left something left fifty of it.
    const grown = Object.keys(counts[1]!).filter((name) => counts[1]![name]! > (counts[0]![name] ?? 0) + 5);
    t.deepEqual(grown, []);
    await settle(simulator, [...probes]);
    const { taken, sent } = totals(simulator, [...probes]);
    t.deepEqual(taken, sent);
    const sequences = probes.flatMap((probe) => probe.taken.map(({ s }) => s)).sort((a, b) => a - b);
    t.deepEqual(
      sequences,
      Array.from({ length: sequences.length }, (_, index) => index + 1),
    );
    t.like(simulator.stats(), { identifies: 1, resumes: 55, connectionsOpened: 56 });
  });
}
