/**
 * A process dies at every named step of a hotboot, under load: the parent, the child, or nats-server while one of them
 * stands at that step. The steps come from the protocol's own tables, so a new one is not forgotten.
 *
 * Afterwards, whoever died where: every dispatch is counted exactly once, no session was spent, epochs never fell, and
 * the database nodes hold the same bytes. GUILDSTREAM_TEST_FULL=1 kills nats-server at every step, too.
 */
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { allHandoffSteps } from "../../src/core/handoff.js";
import { askWorker } from "../../src/nats/ask.js";
import { auditLog } from "../helpers/audit.js";
import { type Cluster, until, withCluster } from "../helpers/cluster.js";
import { tempDir } from "../helpers/nats.js";

/** Only reached when a move comes to nothing; the others are on the way of every hotboot. */
const failing: readonly string[] = [
  "giver:returned",
  "receiver:dropped",
  "parent:staying",
  "child:dismissed",
];
const ordinary = allHandoffSteps.filter((step) => !failing.includes(step));
const serverSteps =
  process.env.GUILDSTREAM_TEST_FULL === "1"
    ? ordinary
    : ["giver:moving", "giver:departing", "receiver:resuming", "parent:placing", "child:opening"];

class Crashes {
  constructor(
    readonly cluster: Cluster,
    readonly file: string,
  ) {}

  /** Whoever comes to this step first gets the signal. */
  arm(signal: "SIGKILL" | "SIGSTOP", step: string): void {
    for (const file of [`${this.file}.taken`, `${this.file}.pid`]) rmSync(file, { force: true });
    writeFileSync(this.file, `${signal} ${step}`);
  }

  /** The pid of who has it. */
  async struck(step: string): Promise<number> {
    await until(`somebody came to ${step}`, () => existsSync(`${this.file}.taken`));
    return Number(readFileSync(`${this.file}.pid`, "utf8"));
  }

  /** Asks until somebody has heard it: a generation that has just begun to serve may not have told the launcher yet. */
  async hotboot(): Promise<void> {
    const worker = this.cluster.workers[0]!;
    const heard = (): number => worker.output.match(/SIGUSR2: hotboot/g)?.length ?? 0;
    const before = heard();
    let askedAt = Number.NEGATIVE_INFINITY;
    await until("the request is heard", () => {
      if (performance.now() - askedAt > 1_000) {
        askedAt = performance.now();
        worker.signal("SIGUSR2");
      }
      return heard() > before;
    });
  }

  /** One worker of that id serves all shards, whoever it is; if nobody is left, the platform starts it again. */
  async servedAgain(): Promise<void> {
    const { cluster } = this;
    await cluster.dispatched(50);
    await until("served again", () => {
      const worker = cluster.workers[0]!;
      if (!worker.isRunning) worker.start();
      const entry = cluster.list.workers().get(worker.id);
      const isFree = entry?.hotboot === undefined || /gone|staying/.test(entry.hotboot.step);
      const isAlone = generationsOf(worker.pid!).length === 1;
      return entry?.live === true && entry.status === "ready" && isFree && isAlone && isRunning(entry.pid);
    });
    await cluster.ready();
    await cluster.dispatched(50);
  }

  async end(t: ExecutionContext): Promise<void> {
    const { cluster } = this;
    await cluster.settled();
    const { lost, duplicated, expected } = await cluster.verdict();
    const audit = await auditLog(cluster.nc);
    t.log({ expected, lost, duplicated, ...audit });
    t.is(lost, 0);
    t.is(duplicated, 0);
    t.deepEqual(audit.wrong, []);
    t.is(cluster.simulator.stats().identifies, 2, "no session was spent");
    t.is(new Set(cluster.checksums()).size, 1);
  }
}

async function stage(t: ExecutionContext): Promise<Crashes> {
  const file = join(await tempDir(t), "crash");
  const cluster = await withCluster(t, {
    launcher: true,
    shards: 2,
    workerEnv: { GUILDSTREAM_CRASH_FILE: file },
    simulator: { guilds: 200, ratePerSecond: 200 },
  });
  cluster.simulator.setTraffic({ running: true });
  await cluster.dispatched(300);
  return new Crashes(cluster, file);
}

for (const role of ["giver", "receiver", "parent", "child"]) {
  test.serial(`a process dies at each step of the ${role}`, async (t) => {
    t.timeout(170_000);
    const crashes = await stage(t);
    for (const step of ordinary.filter((each) => each.startsWith(role))) {
      const startedAt = performance.now();
      crashes.arm("SIGKILL", step);
      await crashes.hotboot();
      await crashes.struck(step);
      await crashes.servedAgain();
      t.log(`${step}: served again ${Math.round(performance.now() - startedAt)} ms after the request`);
    }
    await crashes.end(t);
  });
}

test.serial("a process dies at each step of a hotboot that comes to nothing", async (t) => {
  t.timeout(170_000);
  const crashes = await stage(t);
  const { cluster } = crashes;
  for (const step of failing) {
    crashes.arm("SIGSTOP", "receiver:receiving");
    await crashes.hotboot();
    const child = await crashes.struck("receiver:receiving");
    crashes.arm("SIGKILL", step);
    await askWorker(cluster.nc, "worker-1", { ask: "abort" }, 5_000);
    // The parent does not wait for a child that does not answer; the child finds it out later.
    if (step.startsWith("receiver") || step.startsWith("child")) process.kill(child, "SIGCONT");
    await crashes.struck(step);
    if (!step.startsWith("receiver") && !step.startsWith("child")) process.kill(child, "SIGCONT");
    await crashes.servedAgain();
  }
  await crashes.end(t);
});

test.serial("nats-server dies while a process stands at a step", async (t) => {
  t.timeout(170_000);
  const crashes = await stage(t);
  const { cluster } = crashes;
  for (const step of serverSteps) {
    const startedAt = performance.now();
    crashes.arm("SIGSTOP", step);
    await crashes.hotboot();
    const pid = await crashes.struck(step);
    await cluster.server.kill();
    await cluster.server.restart();
    process.kill(pid, "SIGCONT");
    await crashes.servedAgain();
    t.log(`${step}: served again ${Math.round(performance.now() - startedAt)} ms after the request`);
  }
  await crashes.end(t);
});

/** The list may still show the dead one. */
function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

/** The processes below the launcher. */
function generationsOf(launcher: number): string[] {
  try {
    return readFileSync(`/proc/${launcher}/task/${launcher}/children`, "utf8").trim().split(/ +/);
  } catch {
    return []; // It has ended.
  }
}
