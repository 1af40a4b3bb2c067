/**
 * Specs of "saved by all live nodes, at least one", on a real list-server: nodes that boot, lag, die, come back, or
 * still speak of an older stream. The nodes' words are the test's.
 */
import test, { type ExecutionContext } from "ava";
import { pino } from "pino";
import { DbnodeWatch } from "../../src/cluster/dbnodes.js";
import { ClusterList } from "../../src/cluster/list.js";
import { limits } from "../../src/core/limits.js";
import type { DbnodeEntry } from "../../src/core/members.js";
import { clusterKeys, dbnodeSubjects } from "../../src/core/subjects.js";
import { connectNats, type NatsConnection } from "../../src/nats/connect.js";
import { ensureStreams } from "../../src/nats/definitions.js";
import { until } from "../helpers/cluster.js";
import { putEntry } from "../helpers/entries.js";
import { withServer } from "../helpers/nats.js";

const silent = pino({ level: "silent" });
const created = "2026-01-01T00:00:00.1Z";
const createdLater = "2026-01-02T00:00:00.12Z";

class Stage {
  readonly watermarks: number[] = [];
  watch!: DbnodeWatch;

  constructor(
    readonly nc: NatsConnection,
    readonly list: ClusterList,
  ) {}

  static async open(t: ExecutionContext): Promise<Stage> {
    const server = await withServer(t);
    const nc = await connectNats({ url: server.url, name: "test" });
    t.teardown(() => nc.close());
    await ensureStreams(nc);
    const list = await ClusterList.open(nc, silent);
    t.teardown(() => list.stop());
    const stage = new Stage(nc, list);
    stage.watch = new DbnodeWatch(nc, list, (watermark) => stage.watermarks.push(watermark));
    t.teardown(() => stage.watch.stop());
    return stage;
  }

  /** One heartbeat of a node, seen by the list. */
  async beat(id: string, word: Partial<DbnodeEntry>): Promise<void> {
    const entry: DbnodeEntry = {
      ...{ id, incarnation: "1", status: "ready", version: "0", host: "test", pid: 1, at: 0, rssBytes: 0 },
      ...{ received: word.saved ?? 0, saved: 0, streamLast: 0, streamCreated: created, guilds: 0 },
      ...{ quarantined: 0, checksum: "0000000000000000" },
      ...word,
    };
    const revision = await putEntry(this.list, clusterKeys.dbnode(id), entry);
    await until("seen", () => this.list.revisionOf(clusterKeys.dbnode(id)) >= revision);
  }

  async announce(id: string, saved: number, streamCreated = created): Promise<void> {
    this.nc.publish(dbnodeSubjects.saved(id), JSON.stringify({ id, saved, streamCreated }));
    await this.nc.flush();
  }
}

test("saved is what all live nodes have saved; one that boots neither counts nor is asked", async (t) => {
  const stage = await Stage.open(t);
  t.is(stage.watch.savedBy, 0);
  await stage.beat("a", { saved: 100 });
  await stage.beat("b", { saved: 10, status: "booting" });
  t.is(stage.watch.savedBy, 1);
  t.is(stage.watch.watermark, 100);
  t.deepEqual(stage.watch.order(0), { first: ["a"], last: [] });

  await stage.beat("b", { saved: 90 });
  t.is(stage.watch.savedBy, 2);
  t.is(stage.watch.watermark, 90, "it counts with what it has, although that is less than was saved before");
  await stage.announce("a", 120);
  t.is(stage.watch.watermark, 90);
  await stage.announce("b", 110);
  t.is(stage.watch.watermark, 110);
  t.deepEqual([...stage.watch.order(0).first].sort(), ["a", "b"]);

  await stage.beat("b", { saved: 110, status: "draining" });
  t.is(stage.watch.savedBy, 2, "it still saves");
  t.deepEqual(stage.watch.order(0).first, ["a"], "but is not asked");
});

test("a node that falls silent stops counting by itself; with none the watermark stands", async (t) => {
  const stage = await Stage.open(t);
  await stage.beat("a", { saved: 100 });
  await stage.beat("b", { saved: 50 });
  t.is(stage.watch.watermark, 50);
  const silentAt = performance.now();
  const beating = setInterval(() => void stage.beat("a", { saved: 100 }), limits.heartbeatIntervalMs);
  t.teardown(() => clearInterval(beating));
  await until("b does not count", () => stage.watch.savedBy === 1);
  t.true(performance.now() - silentAt < limits.memberDeadMs + 3 * limits.heartbeatIntervalMs);
  t.is(stage.watch.watermark, 100);
  clearInterval(beating);
  await until("nobody counts", () => stage.watch.savedBy === 0);
  await stage.announce("a", 200);
  t.is(stage.watch.watermark, 100);
  t.deepEqual(stage.watch.order(0), { first: [], last: [] });
  await stage.beat("b", { saved: 60 });
  t.is(stage.watch.savedBy, 1);
  t.is(stage.watch.watermark, 60);
});

test("what a node saved of an older stream is worth nothing in the one after it", async (t) => {
  const stage = await Stage.open(t);
  await stage.beat("a", { saved: 1_000 });
  await stage.beat("b", { saved: 1_000 });
  await stage.announce("a", 5, createdLater);
  t.is(stage.watch.watermark, 0, "b has not noticed yet");
  await stage.announce("b", 3, createdLater);
  t.is(stage.watch.watermark, 3);
});

test("after a rewind each node counts from its next word", async (t) => {
  const stage = await Stage.open(t);
  await stage.beat("a", { saved: 1_000 });
  await stage.beat("b", { saved: 1_000 });
  stage.watch.distrust();
  t.is(stage.watch.watermark, 0);
  t.is(stage.watch.savedBy, 2);
  await stage.announce("a", 950);
  t.is(stage.watch.watermark, 0);
  await stage.announce("b", 940);
  t.is(stage.watch.watermark, 940);
  t.deepEqual(stage.watermarks, [1_000, 0, 940]);
});
