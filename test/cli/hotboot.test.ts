/** A role with the real lifetime under the real launcher: what ends it, and how it is followed by its successor. */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import anyTest, { type TestFn } from "ava";
import { until } from "../helpers/cluster.js";
import { tempDir } from "../helpers/nats.js";
import { launchRole, hotbootRolePath as script } from "./launched.js";

const test: TestFn = process.platform === "linux" ? anyTest : (anyTest.skip as unknown as TestFn);

test("SIGUSR2: the successor knows whom it follows, the older one drains, SIGTERM then is the end", async (t) => {
  const launched = await launchRole(t, { script, args: ["a"] });
  await launched.said(/^a, generation 1: up/m);
  await launched.askForHotboot(1);
  await launched.said(/^a, generation 2: up as \d+ with --hotboot a\.1$/m);
  await launched.said(/^a, generation 1: drained$/m);
  launched.kill("SIGTERM");
  t.deepEqual(await launched.ended, [0, null]);
  t.regex(launched.stderr, /^a, generation 2: SIGTERM: finishing what was begun/m);
  t.regex(launched.stderr, /^a, generation 2: drained$/m);
});

test("a successor that fails leaves the older one as it was, and the next try succeeds", async (t) => {
  const launched = await launchRole(t, { script, args: ["a"], env: { HOTBOOT_FAILS: "2" } });
  await launched.said(/^a, generation 1: up/m);
  await launched.askForHotboot(1);
  await launched.said(
    /^a, generation 1: the hotboot came to nothing, going on as before: process \d+ ended with 3$/m,
  );
  await launched.askForHotboot(1);
  await launched.said(/^a, generation 3: up as \d+ with --hotboot a\.1$/m);
  await launched.said(/^a, generation 1: drained$/m);
  launched.kill("SIGTERM");
  t.deepEqual(await launched.ended, [0, null]);
});

test("a request while the successor boots is refused, and takes nothing from the first", async (t) => {
  const launched = await launchRole(t, { script, args: ["a"], env: { ASKS_TWICE: "", HOTBOOT_FAILS: "2" } });
  await launched.comes(1, "up");
  await launched.askForHotboot(1);
  await launched.said(/generation 1: no successor was started: NEXT_ALIVE: its successor is there already/);
  await launched.said(/going on as before: process \d+ ended with 3$/m);
  t.is(launched.process.exitCode, null);
});

test("one touch of .hotboot reaches each worker of the folder once, and no successor", async (t) => {
  const cwd = await tempDir(t);
  const file = join(cwd, ".hotboot");
  await writeFile(file, "");
  await utimes(file, 0, 0); // From an earlier life: nobody takes it.
  const workers = await Promise.all(
    ["a", "b", "c"].map((name) => launchRole(t, { script, args: [name], cwd })),
  );
  await Promise.all(workers.map((worker) => worker.said(/generation 1: up/)));
  await writeFile(file, "");
  await Promise.all(workers.map((worker) => worker.said(/generation 1: drained/)));
  await until("the file is gone", () => !existsSync(file));
  for (const worker of workers) {
    t.is(worker.stderr.match(/: \.hotboot: hotboot$/gm)?.length, 1);
    t.notRegex(worker.stderr, /generation 3/);
    worker.kill("SIGTERM");
    t.deepEqual(await worker.ended, [0, null]);
  }
});

test("without a launcher a hotboot is refused by name", async (t) => {
  const role = spawn(process.execPath, [script, "a"], { stdio: ["ignore", "ignore", "pipe"] });
  t.teardown(() => role.kill("SIGKILL"));
  let stderr = "";
  role.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  await until("up", () => stderr.includes(": up"));
  role.kill("SIGUSR2");
  await until("refused", () => /going on as before: no successor was started: nobody stays/.test(stderr));
  t.is(role.exitCode, null);
});

// Alone: it is about what comes within half a second. Two signals, since of one kind two may become one on the way.
test.serial(
  "one request to stop, by two ways, is one: the launcher and the worker are both signalled",
  async (t) => {
    const launched = await launchRole(t, { script, args: ["a"], env: { DRAIN_MS: "2000" } });
    const { pid } = await launched.comes(1, "up");
    process.kill(pid, "SIGINT");
    launched.kill("SIGTERM");
    t.deepEqual(await launched.ended, [0, null]);
    t.is(launched.noted(1, "drained").length, 1);
  },
);

test("SIGTERM again, later, is a second request: it leaves at once", async (t) => {
  const launched = await launchRole(t, { script, args: ["a"], env: { DRAIN_MS: "60000" } });
  await launched.comes(1, "up");
  const insisting = setInterval(() => launched.kill("SIGTERM"), 100);
  t.teardown(() => clearInterval(insisting));
  t.deepEqual(await launched.ended, [130, null]);
});

test("the launcher is killed with -9: the role drains by itself", async (t) => {
  const launched = await launchRole(t, { script, args: ["a"] });
  await launched.comes(1, "up");
  launched.kill("SIGKILL");
  await launched.allGone();
  t.is(launched.noted(1, "drained").length, 1);
});

test("the launcher is killed, and then systemd sends SIGTERM to what is left: it drains all the same", async (t) => {
  const launched = await launchRole(t, { script, args: ["a"] });
  const { pid } = await launched.comes(1, "up");
  launched.kill("SIGKILL");
  await launched.said(/the supervisor is gone: finishing/);
  process.kill(pid, "SIGTERM");
  await launched.allGone();
  t.is(launched.noted(1, "drained").length, 1);
});
