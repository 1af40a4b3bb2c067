/**
 * Many workers and database nodes as one cluster: a seeded sequence of joins, kills, freezes and clean exits under load.
 * Whatever the order: every dispatch is counted exactly once, no session is spent, epochs never fall, and all database
 * nodes end with the same bytes.
 */
import test from "ava";
import { connectedShards } from "../../src/core/members.js";
import { clusterKeys } from "../../src/core/subjects.js";
import { auditLog } from "../helpers/audit.js";
import { type Cluster, type RoleProcess, until, withCluster } from "../helpers/cluster.js";
import { putEntry } from "../helpers/entries.js";

/** Mulberry32: small, seeded, the same everywhere. */
function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

const seed = Number(process.env.GUILDSTREAM_TEST_SEED ?? 20_261_124);
const shards = 8;

test("joins, kills, freezes and clean exits in any order: nothing lost, nothing twice, no session spent", async (t) => {
  const random = randomOf(seed);
  t.log(`seed ${seed} (GUILDSTREAM_TEST_SEED)`);
  const cluster = await withCluster(t, {
    workers: 3,
    dbnodes: 3,
    shards,
    simulator: { guilds: 400, ratePerSecond: 1_000 },
  });
  cluster.simulator.setTraffic({ running: true });
  await cluster.dispatched(1_000);
  let joined = 3;
  const pick = <T>(choices: readonly T[]): T => choices[Math.floor(random() * choices.length)]!;
  // Each at least once, in a seeded order, and some once more.
  const whats = ["join", "kill", "freeze", "exit", "kill node"];
  const steps = [...whats, pick(whats)]
    .map((what) => ({ what, order: random() }))
    .sort((a, b) => a.order - b.order);
  for (const { what } of steps) {
    const running = cluster.workers.filter((worker) => worker.isRunning);
    if (what === "join" || running.length <= 2) {
      joined += 1;
      cluster.join(`worker-${joined}`);
    }
    const startedAt = performance.now();
    if (what === "kill") {
      const failoverMs = await kill(cluster, pick(running));
      t.log(`killed: served elsewhere after ${failoverMs} ms`);
      t.true(failoverMs < 10_000, "served elsewhere within 10 s");
    }
    if (what === "freeze") await freeze(cluster, pick(running));
    if (what === "exit") t.is(await pick(running).end("SIGTERM"), 0, "a clean exit");
    if (what === "kill node") {
      const node = pick(cluster.dbnodes);
      await node.end("SIGKILL");
      await cluster.dispatched(300);
      node.start();
    }
    await cluster.balanced();
    t.log(`${what}: all ready again after ${Math.round(performance.now() - startedAt)} ms`);
    await cluster.dispatched(500);
  }
  await cluster.settled();
  const verdict = await cluster.verdict();
  const audit = await auditLog(cluster.nc);
  t.log({ ...verdict, ...audit });
  t.true(verdict.expected > 5_000);
  t.is(verdict.lost, 0);
  t.is(verdict.duplicated, 0);
  t.deepEqual(audit.wrong, []);
  t.true(audit.claims > 0);
  t.is(cluster.simulator.stats().identifies, shards, "one IDENTIFY a shard, at the first boot");
  t.is(new Set(cluster.checksums()).size, 1);
});

/** Without a good-bye; started again once the others have taken over. How long that took, in milliseconds. */
async function kill(cluster: Cluster, worker: RoleProcess): Promise<number> {
  const held = cluster.list.workers().get(worker.id)!.shards;
  await worker.end("SIGKILL");
  const killedAt = performance.now();
  await servedByOthers(cluster, worker.id, held);
  const failoverMs = Math.round(performance.now() - killedAt);
  worker.start();
  return failoverMs;
}

/** Stopped until others serve its shards; woken up it has to find out, drop everything and begin anew. */
async function freeze(cluster: Cluster, worker: RoleProcess): Promise<void> {
  const held = cluster.list.workers().get(worker.id)!;
  worker.signal("SIGSTOP");
  await servedByOthers(cluster, worker.id, held.shards);
  await cluster.dispatched(200);
  worker.signal("SIGCONT");
  await until("a new life", () => {
    const now = cluster.list.workers().get(worker.id);
    return now?.live === true && now.incarnation !== held.incarnation;
  });
}

async function servedByOthers(cluster: Cluster, id: string, shards: readonly number[]): Promise<void> {
  await until("its shards served elsewhere", () => {
    const others = [...cluster.list.workers().values()].filter((other) => other.live && other.id !== id);
    const served = new Set(others.flatMap(connectedShards));
    return shards.every((shard) => served.has(shard));
  });
}

test("a worker that will be back keeps its shards: nobody takes them, and it RESUMEs them itself", async (t) => {
  const cluster = await withCluster(t, {
    workers: 2,
    shards: 4,
    workerArgs: ["--temporary"],
    simulator: { ratePerSecond: 300 },
  });
  const { simulator, list } = cluster;
  await cluster.balanced();
  simulator.setTraffic({ running: true });
  await cluster.dispatched(300);
  const leaver = cluster.workers[0]!;
  const held = list.workers().get(leaver.id)!.shards;
  t.is(await leaver.end("SIGTERM"), 0);
  t.is(list.workers().get(leaver.id)?.status, "offline-temporary");
  // Longer than a death would take to be noticed.
  await until("the other beats on", () => list.workers().get(leaver.id)!.silentMs > 8_000);
  t.deepEqual(
    held.map((shard) => list.shard(shard)?.owner),
    held.map(() => leaver.id),
  );
  leaver.start();
  await cluster.ready();
  t.deepEqual(list.workers().get(leaver.id)?.shards, held);
  await cluster.settled();
  const { lost, duplicated } = await cluster.verdict();
  t.is(lost + duplicated, 0);
  t.is(simulator.stats().identifies, 4);
});

test("the list-server deleted under load: served all the while, made anew from the members, then a death", async (t) => {
  const cluster = await withCluster(t, { workers: 3, shards: 6, simulator: { ratePerSecond: 400 } });
  const { simulator, list, nc } = cluster;
  await cluster.balanced();
  simulator.setTraffic({ running: true });
  await cluster.dispatched(300);
  const ownersOf = (): (string | undefined)[] => [0, 1, 2, 3, 4, 5].map((shard) => list.shard(shard)?.owner);
  const owners = ownersOf();
  const { resumes } = simulator.stats();
  await (await nc.jetstreamManager()).streams.delete("KV_cluster");
  await cluster.dispatched(400);
  await until("everybody and every session is in the new one", () => {
    const members = [...list.workers().values(), ...list.dbnodes().values()];
    const sessions = [0, 1, 2, 3, 4, 5].map((shard) => list.session(shard)?.revision ?? 0);
    return members.length === 5 && members.every(({ revision }) => revision > 0) && !sessions.includes(0);
  });
  t.deepEqual(ownersOf(), owners);
  t.is(simulator.stats().resumes, resumes, "no shard has moved");

  await cluster.workers[2]!.end("SIGKILL");
  await cluster.ready();
  await cluster.settled();
  const { lost, duplicated } = await cluster.verdict();
  t.is(lost + duplicated, 0);
  t.deepEqual((await auditLog(nc)).wrong, []);
  t.is(simulator.stats().identifies, 6);
});

test("an id that is in use is refused by name; the one who holds it does not notice", async (t) => {
  const cluster = await withCluster(t, { shards: 1, simulator: { guilds: 5 } });
  const second = cluster.newWorker("worker-1");
  t.teardown(() => second.end("SIGKILL"));
  second.start();
  await until("it has ended", () => !second.isRunning);
  t.is(await second.end("SIGTERM"), 1);
  t.regex(second.output, /MEMBER_ID_TAKEN/);
  t.regex(second.output, /give this one another --id/);
  t.true(cluster.list.workers().get("worker-1")?.live);
  t.is(cluster.simulator.stats().identifies, 1);
});

test("a worker of another bot is refused by name; a shard count written by hand is put right", async (t) => {
  const cluster = await withCluster(t, { shards: 2, simulator: { guilds: 20, ratePerSecond: 100 } });
  const { simulator, list } = cluster;
  simulator.setTraffic({ running: true });
  const other = cluster.newWorker("worker-2", ["--bot", "community"]);
  t.teardown(() => other.end("SIGKILL"));
  other.start();
  await until("it has ended", () => !other.isRunning);
  t.is(await other.end("SIGTERM"), 2);
  t.regex(other.output, /this cluster runs the bot "counting" \(worker-1\), not "community"/);

  for (const wrong of [{ epoch: 2, shardCount: 12 }, "no topology"]) {
    await putEntry(list, clusterKeys.topology, wrong);
    await until("put right", () => list.topology()?.shardCount === 2 && list.topology()?.epoch === 1);
  }
  await cluster.dispatched(100);
  await cluster.settled();
  const { lost, duplicated } = await cluster.verdict();
  t.is(lost + duplicated, 0);
  t.is(simulator.stats().identifies, 2);
});
