/** A role under `guildstream start`: followed by its successor, or not, and started again when it dies. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import anyTest, { type ExecutionContext, type TestFn } from "ava";
import { Child } from "../../src/ops/start/child.js";
import { hotbootRolePath, isRunning } from "../cli/launched.js";
import { until } from "../helpers/cluster.js";
import { tempDir } from "../helpers/nats.js";

const test: TestFn = process.platform === "linux" ? anyTest : (anyTest.skip as unknown as TestFn);

async function startChild(t: ExecutionContext, env: Record<string, string> = {}) {
  const notes: string[] = [];
  const pids: number[] = [];
  const logFile = join(await tempDir(t), "role.log");
  const child = new Child({
    name: "worker-1",
    args: [hotbootRolePath, "w"],
    env,
    logFile,
    restarts: true,
    onSpawn: (pid) => pids.push(pid),
    onNote: (text) => notes.push(text),
  });
  t.teardown(() => {
    child.kill();
    if (!t.passed) t.log(notes, readFileSync(logFile, "utf8"));
  });
  const said = (text: RegExp): Promise<void> =>
    until(`${text}`, () => text.test(readFileSync(logFile, "utf8")));
  const noted = (text: RegExp): Promise<void> =>
    until(`${text}`, () => notes.some((note) => text.test(note)));
  await child.ready;
  return { child, notes, pids, said, noted };
}

test("it asks for its successor, which goes on; a death after that is a restart, without a predecessor", async (t) => {
  const { child, pids, said, noted } = await startChild(t);
  process.kill(pids[0]!, "SIGUSR2");
  await said(/^w, generation 2: up as \d+ with --hotboot w\.1$/m);
  await noted(/^worker-1 has handed over to new code \(generation 2\)$/);
  t.is(child.pid, pids[1]);
  t.false(isRunning(pids[0]!));
  t.is(child.restarted, 0);

  process.kill(pids[1]!, "SIGKILL");
  await noted(/^worker-1 ended \(SIGKILL\); starting it again$/);
  await said(/^w, generation 3: up as \d+ with $/m);
  t.is(child.restarted, 1);
  await child.stop();
  t.deepEqual(pids.filter(isRunning), []);
});

test("a successor that fails is told of, and the running one goes on", async (t) => {
  const { child, pids, said, noted } = await startChild(t, { HOTBOOT_FAILS: "2" });
  process.kill(pids[0]!, "SIGUSR2");
  await noted(/^worker-1, generation 2, ended \(exit code 3\); generation 1 goes on$/);
  await said(/going on as before: process \d+ ended with 3$/m);
  t.is(child.pid, pids[0]);
  t.is(child.restarted, 0);
  await child.stop();
  t.deepEqual(pids.filter(isRunning), []);
});
