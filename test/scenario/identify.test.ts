/**
 * What arrives at the gateway when several worker processes start their sessions: never two IDENTIFYs of a bucket within
 * Discord's interval, never one beyond the day's limit. The simulator is the judge: it refuses and counts every violation.
 */
import test from "ava";
import { limits } from "../../src/core/limits.js";
import { runCli } from "../cli/run-cli.js";
import { type Cluster, until, withCluster } from "../helpers/cluster.js";

const shards = 16;

function violations({ simulator }: Cluster): number {
  const { identifiesTooSoon, identifiesOverLimit } = simulator.stats();
  return identifiesTooSoon + identifiesOverLimit;
}

async function connected({ simulator }: Cluster, count: number): Promise<void> {
  await until(`${count} connected sessions`, () => {
    return simulator.stats().sessions.filter((session) => session.connected).length === count;
  });
}

test("two workers of the command line, max_concurrency 4, Discord's own 5 s", async (t) => {
  const cluster = await withCluster(t, {
    workers: 2,
    dbnodes: 1,
    shards,
    simulator: { guilds: shards, maxConcurrency: 4 },
  });
  await connected(cluster, shards);
  const stats = cluster.simulator.stats();
  t.log(`shortest gap ${stats.identifyShortestGapMs} ms`);
  t.is(violations(cluster), 0);
  t.is(stats.identifies, shards);
  t.true(
    stats.identifyShortestGapMs! >= limits.identifyIntervalMs,
    "nothing of Discord's leniency is needed",
  );
  t.is(cluster.list.identifyDaily()?.remaining, 1_000 - shards);
});

test("three workers, max_concurrency 1, one killed midway: none too soon, no session begun twice", async (t) => {
  const identifyIntervalMs = 500;
  const cluster = await withCluster(t, {
    workers: 3,
    dbnodes: 1,
    shards,
    identifyIntervalMs,
    isReadyAwaited: false,
    simulator: { guilds: shards, maxConcurrency: 1, identifyIntervalMs },
  });
  const { simulator } = cluster;
  await until("six sessions", () => simulator.stats().identifies >= 6);
  await cluster.workers[1]!.end("SIGKILL");
  cluster.workers[1]!.start();
  await connected(cluster, shards);
  const stats = simulator.stats();
  t.log(`shortest gap ${stats.identifyShortestGapMs} ms`);
  t.is(violations(cluster), 0);
  // The killed worker's sessions RESUME, but for one of which it had not yet heard READY.
  t.true(stats.identifies <= shards + 1);
  t.true(stats.identifyShortestGapMs! >= identifyIntervalMs);
});

test("a day with fewer sessions than shards: exactly so many IDENTIFYs, then none until the reset", async (t) => {
  const identifyIntervalMs = 200;
  const cluster = await withCluster(t, {
    workers: 2,
    dbnodes: 1,
    shards,
    identifyIntervalMs,
    isReadyAwaited: false,
    simulator: {
      guilds: shards,
      maxConcurrency: 4,
      identifyIntervalMs,
      identifyLimit: 10,
      identifyResetMs: 45_000,
    },
  });
  const { simulator, list } = cluster;
  await until("ten sessions", () => simulator.stats().identifies === 10);
  await until("the others are known to wait", () => {
    const waiting = [...list.workers().values()].flatMap((worker) => worker.offline.identifying);
    return waiting.length === shards - 10;
  });
  t.is(list.identifyDaily()?.remaining, 0);
  t.true(cluster.workers.some(({ output }) => /identify_limit_spent/.test(output)));

  const { stdout } = await runCli(["status"], { env: { NATS_URL: cluster.server.url } });
  t.regex(stdout, /^identifies +0 of 10 left +reset in 00:\d\d +4 buckets +waiting \d/m);
  t.regex(
    stdout,
    /daily limit of new sessions is spent, none is begun for 00:\d\d; shards [\d -]+ wait for the reset/,
  );
  t.regex(stdout, /leave the running workers alone/);

  // RESUMEs cost nothing and go on.
  simulator.fault({ kind: "drop" });
  await until("ten RESUMEs", () => simulator.stats().resumes >= 10);
  t.is(simulator.stats().identifies, 10);

  await connected(cluster, shards);
  t.is(simulator.stats().identifies, shards);
  t.is(violations(cluster), 0);
  t.is(simulator.stats().identifiesRemaining, 4);
  t.is(list.identifyDaily()?.remaining, 4);
});
