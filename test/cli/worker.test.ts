/** The real `guildstream worker`, as `npm run worker` starts it: a small launcher, and a worker that drains below it. */
import { readFileSync } from "node:fs";
import anyTest, { type TestFn } from "ava";
import { rssBytes } from "../../src/ops/processes.js";
import { startSimulator } from "../../src/simulator/index.js";
import { until } from "../helpers/cluster.js";
import { tempDir, withServer } from "../helpers/nats.js";
import { isRunning } from "./launched.js";
import { runCli, startCli } from "./run-cli.js";

const test: TestFn = process.platform === "linux" ? anyTest : (anyTest.skip as unknown as TestFn);

const MiB = 1024 * 1024;

test("it boots under the launcher, serves, and drains on SIGTERM with exit code 0", async (t) => {
  const server = await withServer(t);
  const simulator = await startSimulator({ guilds: 20, seed: 1, paused: true });
  t.teardown(() => simulator.close());
  const env = { NATS_URL: server.url, DISCORD_API: simulator.apiUrl, DISCORD_TOKEN: simulator.token };
  const dbnode = startCli(["dbnode", "--id", "db-1", "--data", await tempDir(t)], { env });
  t.teardown(async () => {
    dbnode.kill("SIGKILL");
    await dbnode.result;
  });
  const worker = startCli(["worker", "--id", "worker-1", "--bot", "counting"], { env });
  t.teardown(async () => {
    worker.kill("SIGKILL");
    await worker.result;
  });
  await worker.said(/"event":"ready"/);
  const { code } = await runCli(["status", "--check", "--id", "worker-1"], { env });
  t.is(code, 0);
  await until("both shards are connected", () =>
    simulator.stats().sessions.every((session) => session.connected),
  );

  const [generation, ...more] = childrenOf(worker.pid);
  t.deepEqual(more, []);
  // Most of it is Node's own binary, which all processes share.
  const [own, whole] = [ownBytes(worker.pid), (await rssBytes(worker.pid))!];
  t.log(`launcher: ${(own / MiB).toFixed(1)} MB of its own, ${(whole / MiB).toFixed(1)} MB in all`);
  t.true(own < 12 * MiB && own < ownBytes(generation!) / 3);

  worker.kill("SIGTERM");
  const result = await worker.result;
  t.is(result.code, 0, result.stderr);
  t.regex(result.stderr, /"event":"stopping".*SIGTERM: finishing/);
  t.false(isRunning(generation!));
});

test("with --no-launcher it is one process", async (t) => {
  const server = await withServer(t);
  const simulator = await startSimulator({ guilds: 5, seed: 1, paused: true });
  t.teardown(() => simulator.close());
  const env = { NATS_URL: server.url, DISCORD_API: simulator.apiUrl, DISCORD_TOKEN: simulator.token };
  const worker = startCli(["worker", "--no-launcher", "--bot", "counting"], { env });
  t.teardown(async () => {
    worker.kill("SIGKILL");
    await worker.result;
  });
  await worker.said(new RegExp(`"pid":${worker.pid}.*"event":"ready"`));
  t.deepEqual(childrenOf(worker.pid), []);
  worker.kill("SIGUSR2");
  await worker.said(/cannot start a successor by itself/);
  worker.kill("SIGTERM");
  t.is((await worker.result).code, 0);
});

function childrenOf(pid: number): number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
  return text === "" ? [] : text.split(" ").map(Number);
}

/** What the process has written to, so shares with nobody. */
function ownBytes(pid: number): number {
  return Number(/^RssAnon:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]) * 1024;
}
