/**
 * Stories of the list-server on a real nats-server: who may hold an id, how silence is judged, and what is left of a
 * cluster's picture when the bucket is deleted under it.
 */
import { readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { pino } from "pino";
import { ClusterList, type ListOptions } from "../../src/cluster/list.js";
import type { GuildstreamError } from "../../src/core/errors.js";
import type { WorkerEntry } from "../../src/core/members.js";
import { clusterKeys } from "../../src/core/subjects.js";
import { connectNats, type NatsConnection } from "../../src/nats/connect.js";
import { ensureStreams } from "../../src/nats/definitions.js";
import type { EmbeddedServer } from "../../src/nats/embedded.js";
import { until } from "../helpers/cluster.js";
import { workerEntryOf } from "../helpers/entries.js";
import { natsVersions, tempDir, withServer } from "../helpers/nats.js";

const silent = pino({ level: "silent" });

function worker(id: string, incarnation: string): WorkerEntry {
  return workerEntryOf(id, { incarnation });
}

async function open(
  t: ExecutionContext,
  server: EmbeddedServer,
  options: ListOptions = {},
): Promise<ClusterList> {
  const nc = await connected(t, server);
  const list = await ClusterList.open(nc, silent, options);
  t.teardown(() => list.stop());
  return list;
}

async function connected(t: ExecutionContext, server: EmbeddedServer): Promise<NatsConnection> {
  const nc = await connectNats({ url: server.url, name: "test" });
  t.teardown(() => nc.close());
  await ensureStreams(nc);
  return nc;
}

test("an id that beats is refused by name to the second who wants it", async (t) => {
  const server = await withServer(t);
  const first = await open(t, server);
  await first.announce("worker.w", () => worker("w", "1"));
  const second = await open(t, server);
  const error = await t.throwsAsync<GuildstreamError>(second.announce("worker.w", () => worker("w", "2")));
  t.is(error?.code, "MEMBER_ID_TAKEN");
  t.regex(error?.hint ?? "", /runs on elsewhere with pid 1/);
});

test("of two processes that take an id in the same moment exactly one goes on", async (t) => {
  const server = await withServer(t);
  const ends = await Promise.all(
    ["1", "2", "3"].map(async (incarnation) => {
      const list = await open(t, server);
      const taken: unknown[] = [];
      const joined = await list
        .announce(
          "worker.w",
          () => worker("w", incarnation),
          (error) => taken.push(error),
        )
        .then(
          () => true,
          () => false,
        );
      await list.beat();
      return joined && taken.length === 0;
    }),
  );
  t.is(ends.filter(Boolean).length, 1);
});

test("a member is live while it beats, dead when it is silent, and swept out in the end", async (t) => {
  const server = await withServer(t);
  const short = { memberDeadMs: 2_000, memberForgetMs: 1_000 };
  const watcher = await open(t, server, short);
  await watcher.announce("worker.watcher", () => worker("watcher", "1"));
  const mortal = await open(t, server);
  await mortal.announce("worker.mortal", () => worker("mortal", "1"));
  await until("both live", () => watcher.workers().get("mortal")?.live === true);
  mortal.stop();
  await until("dead", () => watcher.workers().get("mortal")?.live === false);
  t.true(watcher.workers().get("watcher")?.live);
  await until("swept out", () => watcher.workers().get("mortal") === undefined);
});

for (const version of natsVersions) {
  test(`${version}: the bucket deleted under a cluster: every member writes its part again`, async (t) => {
    const server = await withServer(t, { version });
    const lists = await Promise.all([1, 2].map(() => open(t, server)));
    const rebuilt = [0, 0];
    for (const [n, list] of lists.entries()) {
      await list.announce(`worker.w${n}`, () => worker(`w${n}`, "1"));
      list.onRebuilt(() => {
        rebuilt[n]! += 1;
      });
    }
    const [first, second] = lists as [ClusterList, ClusterList];
    await first.compareAndSet(clusterKeys.topology, { epoch: 3, shardCount: 5 }, 0);
    await until("topology seen", () => second.topology()?.shardCount === 5);

    const nc = await connected(t, server);
    const manager = await nc.jetstreamManager();
    await manager.streams.delete("KV_cluster");

    await until("both have opened the new one", () => rebuilt[0] === 1 && rebuilt[1] === 1);
    t.is(second.topology()?.shardCount, 5, "what nobody has written again is remembered");
    t.is(second.revisionOf(clusterKeys.topology), 0, "but of no use for a compare-and-set");
    const late = await open(t, server);
    await until("both beat in it", () => late.workers().size === 2);
    const beats = late.beatsOf("worker.w1");
    await until("and go on beating", () => late.beatsOf("worker.w1") > beats + 1);
    t.true(first.workers().get("w1")?.live);
  });
}

test("no list-server at boot: the last list on disk serves, until there is one", async (t) => {
  const server = await withServer(t);
  const cacheFile = join(await tempDir(t), "deep", "list.json");
  const before = await open(t, server, { cacheFile });
  await before.announce("worker.w", () => worker("w", "1"));
  await until("kept on disk", () =>
    stat(cacheFile).then(
      () => true,
      () => false,
    ),
  );
  before.stop();

  const nc = await connected(t, server);
  const manager = await nc.jetstreamManager();
  await manager.streams.delete("KV_cluster");
  // A stream of another shape holds the subjects: the bucket can neither be found nor made.
  await manager.streams.add({ name: "in-the-way", subjects: ["$KV.cluster.>"] });
  const booted = await ClusterList.open(nc, silent, { cacheFile });
  t.teardown(() => booted.stop());
  t.is(booted.workers().get("w")?.incarnation, "1");
  t.is(booted.revisionOf("worker.w"), 0);
  const error = await t.throwsAsync<GuildstreamError>(booted.compareAndSet("shard.0", {}, 0));
  t.is(error?.code, "LIST_AWAY");

  await manager.streams.delete("in-the-way");
  await until("the real one is open", () =>
    booted.compareAndSet("shard.0", {}, 0).then(
      () => true,
      () => false,
    ),
  );
});

test("a list on disk that is garbage is as good as none", async (t) => {
  const server = await withServer(t);
  const cacheFile = join(await tempDir(t), "list.json");
  await writeFile(cacheFile, '{"v":1,"entries":[{"key":7}]}');
  const list = await open(t, server, { cacheFile });
  await list.announce("worker.w", () => worker("w", "1"));
  await until("replaced by a good one", async () =>
    (await readFile(cacheFile, "utf8")).includes('"worker.w"'),
  );
  t.pass();
});
