/**
 * Stories of loading guilds while database nodes fail: real nodes in processes of their own, frozen and killed. Who
 * was asked is heard on the wire.
 */
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { pino } from "pino";
import { DbnodeWatch } from "../../src/cluster/dbnodes.js";
import { ClusterList } from "../../src/cluster/list.js";
import { encodeEvent } from "../../src/core/event.js";
import { limits } from "../../src/core/limits.js";
import { guildSubject } from "../../src/core/subjects.js";
import { connectNats, type NatsConnection } from "../../src/nats/connect.js";
import { ensureStreams } from "../../src/nats/definitions.js";
import { GuildLog } from "../../src/nats/guild-log.js";
import { Loader } from "../../src/worker/loader.js";
import { RoleProcess, until } from "../helpers/cluster.js";
import { natsVersions, tempDir, withServer } from "../helpers/nats.js";

const guildIds = Array.from({ length: 200 }, (_, index) =>
  String((1_000_000_000_000n + BigInt(index)) << 22n),
);
const loadsAtOnce = 16;

class Stage {
  /** Requests that each node got, by its id. */
  readonly asked: Record<string, number> = { "db-1": 0, "db-2": 0 };
  readonly #revs = new Map<string, { rev: number; seq: number }>();

  constructor(
    readonly nc: NatsConnection,
    readonly nodes: readonly RoleProcess[],
    readonly guildLog: GuildLog,
    readonly loader: Loader,
  ) {}

  static async open(t: ExecutionContext, version?: string): Promise<Stage> {
    const folder = await tempDir(t);
    const server = await withServer(t, version === undefined ? {} : { version });
    const nc = await connectNats({ url: server.url, name: "test" });
    t.teardown(() => nc.close());
    await ensureStreams(nc);
    const log = pino({ level: "silent" });
    const list = await ClusterList.open(nc, log);
    t.teardown(() => list.stop());
    const nodes = ["db-1", "db-2"].map(
      (id) =>
        new RoleProcess(id, ["dbnode", "--id", id, "--data", join(folder, id)], { NATS_URL: server.url }),
    );
    t.teardown(() => Promise.all(nodes.map((node) => node.end("SIGKILL"))));
    for (const node of nodes) node.start();
    const guildLog = new GuildLog(nc, "test.1");
    t.teardown(() => guildLog.close());
    const dbnodes = new DbnodeWatch(nc, list, () => {});
    t.teardown(() => dbnodes.stop());
    const stage = new Stage(nc, nodes, guildLog, new Loader(nc, guildLog, dbnodes, log));
    await until("both nodes count", () => dbnodes.savedBy === 2);
    return stage;
  }

  /** Counts who is asked; from then on the server takes a dead node's subject for one that somebody listens to. */
  listen(): void {
    this.nc.subscribe("dbnode.*.get", {
      callback: (_, msg) => {
        this.asked[msg.subject.split(".")[1]!]! += 1;
      },
    });
  }

  /** Appends as a worker would. */
  async append(guildId: string, events: number): Promise<void> {
    for (let n = 0; n < events; n += 1) {
      const before = this.#revs.get(guildId) ?? { rev: 0, seq: 0 };
      const place = { rev: before.rev + 1, epoch: 1, by: this.guildLog.incarnation };
      const opsJson =
        place.rev === 1
          ? '{"op":"add","path":"","value":{"n":1}}'
          : `{"op":"replace","path":"/n","value":${place.rev}}`;
      const cause = { shard: 0, session: "s", s: place.rev, t: "MESSAGE_CREATE" };
      const payload = encodeEvent({ ...place, at: 1, opsJson, cause, effects: [] });
      const claim = { ...place, messageId: this.guildLog.newMessageId(), expectedSeq: before.seq };
      const append = { subject: guildSubject(guildId), kind: "event" as const, payload, claim };
      await new Promise<void>((resolve) =>
        this.guildLog.append(append, (outcome) => {
          const seq = outcome.verdict === "stored" ? outcome.seq : -1;
          this.#revs.set(guildId, { rev: place.rev, seq });
          resolve();
        }),
      );
    }
  }

  async load(guildId: string): Promise<number> {
    const startedAt = performance.now();
    const document = await this.loader.load(guildId, guildSubject(guildId));
    const expected = this.#revs.get(guildId)!;
    if (document.rev !== expected.rev || document.seq !== expected.seq)
      throw new Error(`${guildId} is wrong`);
    if ((document.state as { n: number }).n !== expected.rev) throw new Error(`${guildId} has a wrong state`);
    return performance.now() - startedAt;
  }

  /** Loads every guild; the slowest load in ms. What was asked is counted afresh. */
  async loadAll(): Promise<number> {
    for (const id of Object.keys(this.asked)) this.asked[id] = 0;
    const waiting = [...guildIds];
    let slowestMs = 0;
    const lane = async (): Promise<void> => {
      for (let id = waiting.pop(); id !== undefined; id = waiting.pop()) {
        slowestMs = Math.max(slowestMs, await this.load(id));
      }
    };
    await Promise.all(Array.from({ length: loadsAtOnce }, lane));
    return slowestMs;
  }
}

test("a frozen node costs the loads on their way one timeout, the next ones nothing; awake, it gets its share", async (t) => {
  const stage = await Stage.open(t);
  stage.listen();
  await Promise.all(guildIds.map((id) => stage.append(id, 2)));
  await until("both are asked about equally", async () => {
    await stage.loadAll();
    return stage.asked["db-1"]! > guildIds.length * 0.3 && stage.asked["db-2"]! > guildIds.length * 0.3;
  });

  const frozen = stage.nodes[1]!;
  process.kill(frozen.pid!, "SIGSTOP");
  t.teardown(() => frozen.pid !== undefined && process.kill(frozen.pid, "SIGCONT"));
  const withTimeouts = await stage.loadAll();
  t.true(stage.asked["db-2"]! > 0 && stage.asked["db-2"]! <= loadsAtOnce, JSON.stringify(stage.asked));
  t.true(withTimeouts < limits.dbGetTimeoutMs + 500, `${withTimeouts} ms`);
  const afterwards = await stage.loadAll();
  // On a slow machine the time in which it is avoided may just be over: then one load tries it.
  const tries = stage.asked["db-2"]!;
  t.true(tries <= 1, `${tries} asked it while another answers`);
  t.true(afterwards < limits.dbGetTimeoutMs * (tries + 0.9), `${afterwards} ms`);
  t.log({ withTimeouts: Math.round(withTimeouts), afterwards: Math.round(afterwards) });

  process.kill(frozen.pid!, "SIGCONT");
  const awakeAt = performance.now();
  await until("it has its share again", async () => {
    await stage.loadAll();
    return stage.asked["db-2"]! > guildIds.length * 0.3;
  });
  t.log(`a third of the requests after ${Math.round(performance.now() - awakeAt)} ms`);
  t.true(performance.now() - awakeAt < limits.nodeAvoidMaxMs + limits.dbGetTimeoutMs);
});

test("a killed node: the next one is asked in the same load, at once", async (t) => {
  const stage = await Stage.open(t);
  await Promise.all(guildIds.map((id) => stage.append(id, 1)));
  await stage.loadAll();
  await stage.nodes[0]!.end("SIGKILL");
  const slowest = await stage.loadAll();
  t.true(slowest < limits.dbGetTimeoutMs, `${slowest} ms: nobody waited for it`);
});

for (const version of natsVersions) {
  test(`${version}: with no node at all guilds are rebuilt from the stream, a long history in batches`, async (t) => {
    const stage = await Stage.open(t, version);
    const long = guildIds[0]!;
    await Promise.all([stage.append(long, 2_000), ...guildIds.slice(1).map((id) => stage.append(id, 3))]);
    for (const node of stage.nodes) await node.end("SIGKILL");
    // The list still calls them live: the first load of each finds nobody there.
    t.log(`all guilds, the slowest load ${Math.round(await stage.loadAll())} ms`);
    let requests = 0;
    for (const api of ["STREAM.MSG.GET.GUILDS", "CONSUMER.CREATE.GUILDS.>", "CONSUMER.MSG.NEXT.GUILDS.*"]) {
      stage.nc.subscribe(`$JS.API.${api}`, {
        callback: () => {
          requests += 1;
        },
      });
    }
    const tookMs = await stage.load(long);
    t.log(`2,000 events in ${Math.round(tookMs)} ms, ${requests} requests`);
    t.true(requests > 5 && requests < limits.readSinglyMax + 15, `${requests} requests`);
  });
}
