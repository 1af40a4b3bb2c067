/** `guildstream status` on a real cluster: what it shows, what it says when something dies, how it ends. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import test from "ava";
import { packageRoot } from "../../src/nats/definitions.js";
import type { ClusterStatus } from "../../src/ops/status.js";
import { until, withCluster } from "../helpers/cluster.js";
import { withServer } from "../helpers/nats.js";
import { runCli, startCli } from "./run-cli.js";

function lookOf(line: string): ClusterStatus {
  return JSON.parse(line) as ClusterStatus;
}

test("a cluster at one look, as text and as data, and what a killed worker leaves", async (t) => {
  const cluster = await withCluster(t, { workers: 2, shards: 4, simulator: { ratePerSecond: 200 } });
  const { simulator } = cluster;
  simulator.setTraffic({ running: true });
  await until("200 dispatches", () => simulator.stats().dispatches >= 200);
  const env = { NATS_URL: cluster.server.url };

  const text = await runCli(["status"], { env });
  t.is(text.code, 0, text.stderr);
  t.regex(text.stdout, /^shards +4 in epoch 1 +all connected$/m);
  t.regex(text.stdout, /^identifies +996 of 1,000 left \(10 kept back\) +reset in 23:5\d:\d\d +16 buckets$/m);
  for (const { id, pid } of cluster.workers) {
    t.regex(text.stdout, new RegExp(`^${id} +ready +\\d[-\\d ]* +\\d+ .* ${pid}  counting$`, "m"));
  }
  for (const { id, pid } of cluster.dbnodes) {
    t.regex(text.stdout, new RegExp(`^${id} +ready +[\\d,]+ +[\\d,]+ +[\\d,]+ +0 .* ${pid} `, "m"));
  }
  t.regex(text.stdout, /^no problems$/m);
  t.false(text.stdout.includes("\u001b"));

  const json = await runCli(["status", "--json"], { env });
  t.is(json.code, 0);
  const look = lookOf(json.stdout);
  t.deepEqual(look.topology, { epoch: 1, shardCount: 4 });
  t.deepEqual(look.problems, []);
  t.deepEqual(
    look.shards.map(({ connection }) => connection),
    ["connected", "connected", "connected", "connected"],
  );
  t.deepEqual([...new Set(look.shards.map(({ owner }) => owner))].sort(), ["worker-1", "worker-2"]);
  t.true(look.workers.some(({ handledPerS }) => handledPerS !== null && handledPerS > 0));
  t.is(look.identify?.remaining, simulator.stats().identifiesRemaining);
  t.is(look.natsAwayMs, 0);
  const readme = await readFile(join(packageRoot(), "README.md"), "utf8");
  const documented = [look, look.nats, look.log, look.topology, look.shards[0], look.identify];
  const fields = documented.flatMap((part) => Object.keys(part!));
  const internal = ["incarnation", "revision", "streamLast", "streamCreated"];
  const ofMembers = [look.workers[0]!, look.dbnodes[0]!].flatMap(Object.keys);
  for (const field of [...fields, ...ofMembers.filter((name) => !internal.includes(name))]) {
    t.regex(readme, new RegExp(`\`${field}(\\[\\])?\``), field);
  }

  t.is((await runCli(["status", "--check", "--id", "worker-2"], { env })).code, 0);
  t.is((await runCli(["status", "--check", "--id", "nobody"], { env })).code, 1);

  await cluster.workers[1]!.end("SIGKILL");
  const after = await runCli(["status"], { env });
  t.is(after.code, 0, "it could look");
  t.regex(after.stdout, /^worker-2 +SILENT /m);
  t.regex(after.stdout, /^ {2}SILENT: worker worker-2: no heartbeat comes$/m);
  t.regex(after.stdout, /start it again under the same --id/);
  t.is((await runCli(["status", "--check", "--id", "worker-2"], { env })).code, 1);
});

test("watching outlives NATS: it says so, keeps its last look, comes back; Ctrl-C ends with 0", async (t) => {
  const cluster = await withCluster(t, { dbnodes: 1 });
  const env = { NATS_URL: cluster.server.url };
  const data = startCli(["status", "--watch", "--json"], { env });
  const lines = startCli(["status", "--watch"], { env });
  await data.printed(/"natsAwayMs":0,.*"problems":\[\]\}\n/);
  await lines.printed(/^\d\d:\d\d:\d\d \| shards 2 of 2 connected \| workers 1 of 1 live \| /m);

  await cluster.server.kill();
  await data.printed(/"natsAwayMs":[1-9]/);
  await lines.printed(/NATS DOES NOT ANSWER for \d\d:\d\d/);
  await cluster.server.restart();
  await data.printed(/"natsAwayMs":[1-9][^\n]*\n([^\n]*\n)*[^\n]*"natsAwayMs":0,[^\n]*"problems":\[\]\}\n/);
  await lines.printed(
    /NATS DOES NOT ANSWER[^\n]*\n([^\n]*\n)*[^\n]*workers 1 of 1 live[^\n|]*\|[^\n]*left\n/,
  );

  for (const running of [data, lines]) {
    running.kill("SIGINT");
    const { code, stderr } = await running.result;
    t.is(code, 0, stderr);
    t.is(stderr, "");
  }
  const looks = (await data.result).stdout.trimEnd().split("\n").map(lookOf);
  const away = looks.filter(({ natsAwayMs }) => natsAwayMs > 0);
  t.true(away.every(({ workers, problems }) => workers[0]!.live && problems.length === 1));
  t.true(
    looks.every(({ workers }) => workers[0]!.live),
    "nobody is called silent for the time in which nobody could be heard",
  );
});

test("an empty cluster is no error: it could look", async (t) => {
  const server = await withServer(t);
  const { code, stdout } = await runCli(["status"], { env: { NATS_URL: server.url } });
  t.is(code, 0);
  t.regex(stdout, /^no workers$/m);
  t.regex(stdout, /no worker has been here\n +start the first worker: npm run worker -- --bot FILE/);
});

test("a reader that goes away ends it without a word", async (t) => {
  const server = await withServer(t);
  const running = startCli(["status", "--watch", "--json"], { env: { NATS_URL: server.url } });
  await running.printed(/\n/);
  running.closeStdout();
  const { code, stderr } = await running.result;
  t.is(code, 0);
  t.is(stderr, "");
});
