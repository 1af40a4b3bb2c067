/**
 * New code under load: the running worker hands everything to its successor, and nobody notices.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { askWorker } from "../../src/nats/ask.js";
import { runCli } from "../cli/run-cli.js";
import { auditLog } from "../helpers/audit.js";
import { type Cluster, until, withCluster } from "../helpers/cluster.js";
import { tempDir } from "../helpers/nats.js";

/** Signals the launcher and waits until another incarnation serves; the last progress of the parent. */
async function hotboot(cluster: Cluster): Promise<void> {
  const before = cluster.list.workers().get("worker-1")!.incarnation;
  cluster.workers[0]!.signal("SIGUSR2");
  await until("the successor serves", () => {
    const now = cluster.list.workers().get("worker-1");
    return now !== undefined && now.incarnation !== before && now.status === "ready";
  });
}

test("a hotboot under load: nothing lost, nothing twice, no late answer, no session spent", async (t) => {
  const cluster = await withCluster(t, {
    launcher: true,
    shards: 2,
    simulator: { guilds: 500, ratePerSecond: 500 },
  });
  const { simulator } = cluster;
  simulator.setTraffic({ running: true });
  await cluster.dispatched(1_500);
  const startedAt = performance.now();
  await hotboot(cluster);
  t.log(`deployed in ${Math.round(performance.now() - startedAt)} ms`);
  await cluster.ready();
  await cluster.dispatched(500);
  await cluster.settled();
  const { lost, duplicated, expected } = await cluster.verdict();
  const audit = await auditLog(cluster.nc);
  const { answers, identifies } = simulator.stats();
  t.log({ expected, ...audit, answers });
  t.is(lost + duplicated, 0);
  t.deepEqual(audit.wrong, []);
  t.is(answers.late + answers.never, 0);
  t.is(identifies, 2);
  const summary = cluster.workers[0]!.output.split("\n").find((line) => line.includes('"hotboot_done"'));
  t.log(summary);
  t.is(await cluster.workers[0]!.end("SIGTERM"), 0);
});

/** A bot that counts messages, as code of some version would: its state's field, its version, how it migrates. */
function botText(options: {
  name?: string;
  version?: number;
  field?: string;
  migrate?: string;
  first?: string;
}): string {
  const { name = "counter", version = 1, field = "n", migrate = "", first = "" } = options;
  return `${first}
export default {
  name: ${JSON.stringify(name)},
  intents: 1 | (1 << 9),
  state: { version: ${version}, initial: () => ({ ${field}: 0 }), ${migrate} },
  on: { MESSAGE_CREATE({ state }) { state.${field} += 1; } },
};
`;
}

test("new code that is of no use changes nothing; new code that is, takes the state along", async (t) => {
  const bot = join(await tempDir(t), "bot.mjs");
  writeFileSync(bot, botText({ version: 2 }));
  const cluster = await withCluster(t, {
    launcher: true,
    shards: 2,
    bot,
    simulator: { guilds: 20, ratePerSecond: 100 },
  });
  const { simulator, list, nc, server } = cluster;
  simulator.setTraffic({ running: true });
  await cluster.dispatched(200);
  const before = list.workers().get("worker-1")!.incarnation;
  const cli = (...args: string[]) =>
    runCli(["hotboot", "worker-1", ...args], { env: { NATS_URL: server.url } });

  const useless: [why: string, text: string, reason: RegExp][] = [
    ["it does not parse", "export default {", /the child ended with 1/],
    [
      "it throws when loaded",
      botText({ version: 2, first: 'throw new Error("not today");' }),
      /the child ended with 1/,
    ],
    ["it is another bot", botText({ version: 2, name: "other" }), /it runs the bot "other", not "counter"/],
    ["its state is of an older version", botText({ version: 1 }), /state version 1, older than 2/],
  ];
  for (const [why, text, reason] of useless) {
    writeFileSync(bot, text);
    const { code, stderr } = await cli();
    t.is(code, 1, why);
    t.regex(stderr, /goes on as before/, why);
    t.regex(stderr, reason, why);
    t.is(list.workers().get("worker-1")?.incarnation, before, why);
  }

  writeFileSync(
    bot,
    botText({ version: 3, field: "total", migrate: "migrate: (old) => ({ total: old.n })," }),
  );
  t.is((await cli("--dry-run")).code, 0, "a try");
  t.is(list.workers().get("worker-1")?.incarnation, before, "a try changes nothing");
  t.regex((await cli("--abort")).stderr, /no hotboot is underway/);
  t.deepEqual(await askWorker(nc, "worker-1", { ask: "place", revision: 1 }, 2_000), {
    ok: false,
    reason: 'a worker does not answer "place"',
  });

  const deployed = await cli("--json");
  t.is(deployed.code, 0);
  t.true(JSON.parse(deployed.stdout.trim().split("\n").at(-1)!).deployed);
  await cluster.dispatched(200);
  simulator.setTraffic({ running: false });
  await until("all messages counted, most guilds in the new shape", async () => {
    const { guilds } = simulator.ledger();
    let migrated = 0;
    for (const [guildId, { counts }] of Object.entries(guilds)) {
      if (guildId === "dm" || counts.MESSAGE_CREATE === undefined) continue;
      const state = (await cluster.stateOf(guildId)) as unknown as { n?: number; total?: number } | undefined;
      // A guild is migrated when something happens in it.
      if ((state?.total ?? state?.n) !== counts.MESSAGE_CREATE) return false;
      if (state?.total !== undefined) migrated += 1;
    }
    return migrated > 5;
  });
  t.is(simulator.stats().identifies, 2);
});

test("the platform starts the successor itself, without a launcher: the old process ends by itself", async (t) => {
  const cluster = await withCluster(t, { shards: 2, simulator: { guilds: 100, ratePerSecond: 200 } });
  const { simulator, list } = cluster;
  simulator.setTraffic({ running: true });
  await cluster.dispatched(300);
  const [old] = cluster.workers;
  const successor = cluster.newWorker("worker-1", ["--hotboot", "worker-1"]);
  t.teardown(() => successor.end("SIGKILL"));
  successor.start();
  await until("the old one has ended", () => !old!.isRunning);
  t.is(await old!.end("SIGTERM"), 0);
  t.is(list.workers().get("worker-1")?.pid, successor.pid);
  await cluster.dispatched(200);
  await cluster.settled();
  const { lost, duplicated } = await cluster.verdict();
  t.is(lost + duplicated, 0);
  t.is(simulator.stats().identifies, 2);
  t.is(await successor.end("SIGTERM"), 0);

  const orphan = cluster.newWorker("worker-1", ["--hotboot", "worker-7"]);
  t.teardown(() => orphan.end("SIGKILL"));
  orphan.start();
  await until("it has ended", () => !orphan.isRunning);
  t.regex(orphan.output, /HOTBOOT_FAILED: no worker "worker-7" answers/);
});
