/**
 * nats-server loses its unsynced end under a running cluster: its files go back to what they were a moment ago. Workers
 * put back what memory holds, database nodes start over, and in the end every guild is clean and counted exactly.
 */
import { cp, rm } from "node:fs/promises";
import { join } from "node:path";
import test from "ava";
import { streamInfo } from "../../src/nats/stream-info.js";
import { until, withCluster } from "../helpers/cluster.js";

test("the log loses its end: it is put back from memory, and no guild stays dirty for ever", async (t) => {
  const cluster = await withCluster(t, { simulator: { ratePerSecond: 300 } });
  const { simulator, server, nc } = cluster;
  const lastSeq = async (): Promise<number> => (await streamInfo(nc).catch(() => undefined))?.lastSeq ?? 0;
  const appended = async (more: number): Promise<void> => {
    const target = (await lastSeq()) + more;
    await until(`${more} more events`, async () => (await lastSeq()) >= target);
  };
  simulator.setTraffic({ running: true });
  await appended(300);
  const log = join(server.dataDir, "jetstream", "$G", "streams", "GUILDS");
  await server.kill();
  await cp(log, `${log}.old`, { recursive: true });
  await server.restart();
  await until("the server answers", async () => (await lastSeq()) > 0);
  // What comes now is not clean when the server dies, and the log does not become that long again.
  cluster.dbnodes[1]!.signal("SIGSTOP");
  await appended(600);
  simulator.setTraffic({ running: false });

  await server.kill();
  await rm(log, { recursive: true });
  await cp(`${log}.old`, log, { recursive: true });
  await rm(`${log}.old`, { recursive: true });
  await server.restart();
  cluster.dbnodes[1]!.signal("SIGCONT");
  await until("noticed", () => cluster.workers[0]!.output.includes('"event":"stream_rewound"'));
  await cluster.settled();
  const verdict = await cluster.verdict();
  t.log(verdict);
  t.true(verdict.expected > 900);
  t.is(verdict.lost, 0);
  t.is(verdict.duplicated, 0);
  const [first, second] = cluster.checksums();
  t.is(first, second);
});
