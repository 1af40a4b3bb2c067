/**
 * The launcher with a role that only speaks with it: signals, successors, ends, exit codes, a real terminal. What the
 * real worker makes of it is in worker.test.ts and hotboot.test.ts.
 */
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import anyTest, { type TestFn } from "ava";
import { tempDir } from "../helpers/nats.js";
import { fakeRolePath, isRunning, launchRole } from "./launched.js";

// /proc, and the terminal by util-linux' `script`.
const test: TestFn = process.platform === "linux" ? anyTest : (anyTest.skip as unknown as TestFn);

for (const [sent, received] of [
  ["SIGTERM", "SIGTERM"],
  ["SIGINT", "SIGINT"],
  ["SIGHUP", "SIGTERM"],
] as const) {
  test(`${sent} reaches the generation once; its end is the launcher's`, async (t) => {
    const launched = await launchRole(t);
    await launched.comes(1, "ready");
    launched.kill(sent);
    t.deepEqual(await launched.ended, [0, null]);
    t.deepEqual(
      launched.noted(1, "signal").map((entry) => entry.signal),
      [received],
    );
    t.is(launched.stderr, "");
  });
}

test("a second SIGTERM is passed on as a second one", async (t) => {
  const launched = await launchRole(t, { plans: { 1: { slow: true } } });
  await launched.comes(1, "ready");
  launched.kill("SIGTERM");
  await launched.comes(1, "signal");
  launched.kill("SIGTERM");
  t.deepEqual(await launched.ended, [130, null]);
  t.is(launched.noted(1, "signal").length, 2);
});

test("the command line and an exit code go through", async (t) => {
  const launched = await launchRole(t, {
    args: ["worker", "--id", "a b"],
    plans: { 1: { ends: { afterMs: 0, code: 7 } } },
  });
  t.deepEqual(await launched.ended, [7, null]);
  t.deepEqual((await launched.comes(1, "up")).args, ["worker", "--id", "a b"]);
});

test("a generation that a signal ended is 128 + n, and a line says so", async (t) => {
  const launched = await launchRole(t, { plans: { 1: { ends: { afterMs: 0, signal: "SIGKILL" } } } });
  t.deepEqual(await launched.ended, [137, null]);
  await launched.said(/^guildstream: generation 1 \(process \d+\) was ended by SIGKILL\n$/);
});

test("a hotboot: the successor is ready, the older one ends, the launcher stays; and again", async (t) => {
  const launched = await launchRole(t, { args: ["worker"] });
  for (const generation of [1, 2]) {
    await launched.comes(generation, "ready");
    await launched.askForHotboot(generation);
    const next = await launched.comes(generation + 1, "up");
    t.deepEqual(next.args, ["worker", "--hotboot", `fake.${generation}`]);
    await launched.comes(generation, "end");
    t.deepEqual(launched.told(generation), [
      { type: "nextSpawned", generation: generation + 1, pid: next.pid },
      { type: "nextReady", generation: generation + 1 },
    ]);
  }
  t.is(launched.process.exitCode, null);
  launched.kill("SIGTERM");
  t.deepEqual(await launched.ended, [0, null]);
  t.deepEqual(launched.noted(1, "signal"), []);
  t.deepEqual(launched.noted(2, "signal"), []);
});

for (const [how, ends, told, says] of [
  ["exits", { afterMs: 0, code: 3 }, { code: 3, signal: null }, /^$/],
  [
    "is killed",
    { afterMs: 0, signal: "SIGKILL" as const },
    { code: null, signal: "SIGKILL" },
    /generation 2 \(process \d+\) was ended by SIGKILL/,
  ],
] as const) {
  test(`a successor that ${how} before it is ready: the older one is told and goes on`, async (t) => {
    const launched = await launchRole(t, { plans: { 2: { mute: true, ends } } });
    await launched.comes(1, "ready");
    await launched.askForHotboot(1);
    await launched.comes(1, "told", 2);
    t.deepEqual(launched.told(1)[1], { type: "nextEnded", generation: 2, ...told });
    await launched.said(says);
    // It may ask again, and the next one makes it.
    await launched.askForHotboot(1);
    await launched.comes(1, "end");
    t.is((await launched.comes(3, "up")).pid, (await launched.comes(3, "ready")).pid);
    launched.kill("SIGTERM");
    t.deepEqual(await launched.ended, [0, null]);
  });
}

test("a ready successor that dies beside the older one: the older one is told and goes on", async (t) => {
  const launched = await launchRole(t, { plans: { 1: { clings: true, code: 5 } } });
  await launched.comes(1, "ready");
  await launched.askForHotboot(1);
  await launched.comes(1, "told", 2);
  process.kill((await launched.comes(2, "ready")).pid, "SIGKILL");
  await launched.comes(1, "told", 3);
  t.deepEqual(launched.told(1)[2], { type: "nextEnded", generation: 2, code: null, signal: "SIGKILL" });
  launched.kill("SIGTERM");
  t.deepEqual(await launched.ended, [5, null], "the code of the last one");
});

test("the older one dies while its successor boots: the launcher stays with the successor", async (t) => {
  const launched = await launchRole(t, { plans: { 2: { mute: true, code: 6 } } });
  await launched.comes(1, "ready");
  await launched.askForHotboot(1);
  await launched.comes(2, "up");
  process.kill((await launched.comes(1, "up")).pid, "SIGKILL");
  await launched.said(/generation 1 \(process \d+\) was ended by SIGKILL/);
  t.is(launched.process.exitCode, null);
  launched.kill("SIGTERM");
  t.deepEqual(await launched.ended, [6, null]);
});

test("one successor at a time: a second request is refused by name", async (t) => {
  const launched = await launchRole(t, { plans: { 2: { mute: true } } });
  await launched.comes(1, "ready");
  await launched.askForHotboot(1);
  await launched.comes(1, "told");
  await launched.askForHotboot(1);
  await launched.comes(1, "told", 2);
  const { pid } = await launched.comes(2, "up");
  t.like(launched.told(1)[1], {
    type: "nextRefused",
    reason: "NEXT_ALIVE",
    message: `its successor is there already: generation 2 (process ${pid})`,
  });
});

test("a successor whose predecessor is still there gets none of its own", async (t) => {
  const launched = await launchRole(t, { plans: { 1: { clings: true }, 2: { restless: true } } });
  await launched.comes(1, "ready");
  await launched.askForHotboot(1);
  await launched.comes(2, "told");
  t.like(launched.told(2)[0], { type: "nextRefused", reason: "PREVIOUS_ALIVE" });
  t.deepEqual(launched.noted(3, "up"), []);
});

test("SIGTERM during a hotboot reaches both, and no further successor starts", async (t) => {
  const launched = await launchRole(t, { plans: { 1: { slow: true, clings: true }, 2: { mute: true } } });
  await launched.comes(1, "ready");
  await launched.askForHotboot(1);
  await launched.comes(2, "up");
  launched.kill("SIGTERM");
  await launched.comes(2, "end");
  await launched.comes(1, "told", 2);
  process.kill((await launched.comes(1, "up")).pid, "SIGUSR2");
  await launched.comes(1, "told", 3);
  t.like(launched.told(1)[2], { type: "nextRefused", reason: "STOPPING" });
  launched.kill("SIGTERM");
  t.deepEqual(await launched.ended, [130, null]);
});

test("SIGUSR2 before anything is ready harms nobody", async (t) => {
  const launched = await launchRole(t, { plans: { 1: { mute: true } } });
  await launched.comes(1, "up");
  launched.kill("SIGUSR2");
  await launched.said(/^guildstream: SIGUSR2: the worker is not ready yet; nothing is done\n$/);
  launched.kill("SIGTERM");
  t.deepEqual(await launched.ended, [0, null]);
});

test("what it does not understand it passes over, an id that would be a flag included", async (t) => {
  const launched = await launchRole(t, { plans: { 1: { babbles: true } } });
  await launched.comes(1, "ready");
  await launched.askForHotboot(1);
  await launched.comes(1, "end");
  t.deepEqual((await launched.comes(2, "up")).args, ["--hotboot", "fake.1"]);
  t.is(launched.told(1).length, 2);
});

test("killed with -9 it leaves nothing behind, not even in the middle of a hotboot", async (t) => {
  const launched = await launchRole(t, { plans: { 1: { clings: true } } });
  await launched.comes(1, "ready");
  await launched.askForHotboot(1);
  await launched.comes(1, "told", 2);
  launched.kill("SIGKILL");
  await launched.allGone();
  for (const generation of [1, 2]) {
    t.is(launched.noted(generation, "alone").length, 1);
    t.deepEqual(launched.noted(generation, "signal"), []);
  }
});

test("the successor is what is on disk under the same names by then", async (t) => {
  const folder = join(await tempDir(t), "app");
  const deploy = async (release: string): Promise<void> => {
    await mkdir(folder);
    const fake = JSON.stringify(pathToFileURL(fakeRolePath).href);
    const code = `process.env.FAKE_RELEASE = process.cwd() + " ${release}";\nawait import(${fake});\n`;
    await writeFile(join(folder, "role.mjs"), code);
  };
  await deploy("one");
  const launched = await launchRole(t, { script: "role.mjs", cwd: folder });
  t.is((await launched.comes(1, "up")).release, `${folder} one`);
  await launched.comes(1, "ready");

  // The folder is away for a moment: nothing can be started, and that is all.
  await rm(folder, { recursive: true });
  await launched.askForHotboot(1);
  await launched.comes(1, "told");
  t.like(launched.told(1)[0], { type: "nextRefused", reason: "SPAWN_FAILED" });

  await deploy("two");
  await launched.askForHotboot(1);
  await launched.comes(1, "end");
  const [next] = launched.journal.filter((entry) => entry.event === "up" && entry.generation > 1);
  t.is(next?.release, `${folder} two`);
});

test("stopped as by Ctrl-Z it lets the worker run, and goes on where it was", async (t) => {
  const launched = await launchRole(t);
  const { pid } = await launched.comes(1, "ready");
  launched.kill("SIGSTOP");
  launched.kill("SIGTERM");
  t.true(isRunning(pid));
  t.deepEqual(launched.noted(1, "signal"), []);
  launched.kill("SIGCONT");
  t.deepEqual(await launched.ended, [0, null]);
});
