/** A database node on three replicas: its consumer's leader killed, the log's leader frozen and thawed. */
import { join } from "node:path";
import test from "ava";
import { headers } from "nats";
import { guildSubject, guildsStream, kindHeader } from "../../src/core/subjects.js";
import { type Dbnode, runDbnode } from "../../src/dbnode/dbnode.js";
import { connectNats } from "../../src/nats/connect.js";
import { ensureStreams } from "../../src/nats/definitions.js";
import { tempDir } from "../helpers/nats.js";
import { withNatsCluster } from "../helpers/nats-cluster.js";
import { until } from "../helpers/until.js";

const guilds = Array.from({ length: 20 }, (_, index) => String((1_000_000_000_000n + BigInt(index)) << 22n));

test("leaders come and go: every message once, in order, and nothing is started over", async (t) => {
  const cluster = await withNatsCluster(t);
  const setup = await connectNats({ url: cluster.url, name: "setup" });
  t.teardown(() => setup.close());
  await ensureStreams(setup, { replicas: 3 });
  const logged: string[] = [];
  const log = Object.fromEntries(
    ["debug", "info", "warn", "error"].map((level) => [
      level,
      (fields: object, message: string) => logged.push(`${level} ${message} ${JSON.stringify(fields)}`),
    ]),
  ) as never;
  const folder = await tempDir(t);
  const node = async (id: string): Promise<Dbnode> => {
    const leader = (await cluster.leaderOf(guildsStream))!;
    const nc = await connectNats({ url: leader.url, name: id });
    t.teardown(() => nc.close());
    const running = await runDbnode({ id, nc, dataDir: join(folder, id), log });
    t.teardown(() => running.stop());
    return running;
  };
  const nodes = [await node("a"), await node("b")];

  let last = 0;
  let rev = 0;
  /** One event a guild; each is published until it is acknowledged, as the fence of a worker sees to. */
  const round = async (): Promise<void> => {
    rev += 1;
    for (const guildId of guilds) {
      const ops = [{ op: "add", path: rev === 1 ? "" : "/n", value: rev === 1 ? { n: 1 } : rev }];
      const cause = { shard: 0, session: "s", s: rev, t: "MESSAGE_CREATE" };
      const body = JSON.stringify({ v: 1, rev, epoch: 1, by: "w", at: 1, ops, cause });
      const head = headers();
      head.set(kindHeader, "event");
      const msgID = `${guildId}:${rev}`;
      await until("an acknowledgement", async () => {
        const options = { headers: head, msgID, timeout: 1_000 };
        const ack = await cluster.nc
          .jetstream()
          .publish(guildSubject(guildId), body, options)
          .catch(() => {});
        if (ack !== undefined && ack.seq > last) last = ack.seq;
        return ack !== undefined;
      });
    }
  };
  const saved = (): Promise<void> =>
    until("saved by both", () => nodes.every((each) => each.status().saved === last), 40_000);

  for (let n = 0; n < 20; n += 1) await round();
  await saved();
  const consumer = await (await setup.jetstreamManager()).consumers.info(guildsStream, "dbnode-a");
  const server = cluster.servers.find(({ name }) => name === consumer.cluster?.leader)!;
  await server.kill();
  for (let n = 0; n < 20; n += 1) await round();
  await saved();
  await server.restart();
  await cluster.current();

  const frozen = (await cluster.leaderOf(guildsStream))!;
  process.kill(frozen.pid, "SIGSTOP");
  for (let n = 0; n < 20; n += 1) await round();
  process.kill(frozen.pid, "SIGCONT");
  for (let n = 0; n < 20; n += 1) await round();
  await saved();

  t.is(nodes[0]!.status().checksum, nodes[1]!.status().checksum);
  for (const each of nodes) t.like(each.status(), { guilds: guilds.length, quarantined: 0 });
  t.is(last, guilds.length * rev);
  t.deepEqual(
    logged.filter((line) => /starting over|quarantined/.test(line)),
    [],
  );
  t.log([...new Set(logged.map((line) => line.replace(/ \{.*/, "")))].join("\n"));
});
