/** The launcher in a real terminal (a pty by util-linux' `script`): Ctrl-C, once and twice, and the window closed. */
import { spawnSync } from "node:child_process";
import anyTest, { type TestFn } from "ava";
import { hotbootRolePath, launchRole } from "./launched.js";

const isHere = process.platform === "linux" && spawnSync("script", ["--version"]).status === 0;
const test: TestFn = isHere ? anyTest : (anyTest.skip as unknown as TestFn);

const ctrlC = "\x03";

/** What a person types into a terminal; the last line is the launcher's exit code, as the shell there sees it. */
function inTerminal(command: string[]): string[] {
  const quoted = command.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");
  return ["script", "--quiet", "--flush", "--return", "--command", `exec ${quoted}`, "/dev/null"];
}

test("Ctrl-C arrives once", async (t) => {
  const launched = await launchRole(t, { wrap: inTerminal });
  await launched.comes(1, "ready");
  launched.process.stdin!.write(ctrlC);
  t.deepEqual(await launched.ended, [0, null]);
  t.deepEqual(
    launched.noted(1, "signal").map((entry) => entry.signal),
    ["SIGINT"],
  );
});

test("Ctrl-C twice arrives twice", async (t) => {
  const launched = await launchRole(t, { plans: { 1: { slow: true } }, wrap: inTerminal });
  await launched.comes(1, "ready");
  launched.process.stdin!.write(ctrlC);
  await launched.comes(1, "signal");
  launched.process.stdin!.write(ctrlC);
  t.deepEqual(await launched.ended, [130, null]);
  t.is(launched.noted(1, "signal").length, 2);
});

test("the terminal is closed: the generation drains", async (t) => {
  const launched = await launchRole(t, { wrap: inTerminal });
  await launched.comes(1, "ready");
  launched.kill("SIGKILL"); // The window: its end of the terminal is gone.
  await launched.allGone();
  t.deepEqual(
    launched.noted(1, "signal").map((entry) => entry.signal),
    ["SIGTERM"],
  );
});

test("the terminal is closed: the drain does not end by having nobody to tell", async (t) => {
  const launched = await launchRole(t, { script: hotbootRolePath, args: ["a"], wrap: inTerminal });
  await launched.comes(1, "up");
  launched.kill("SIGKILL");
  await launched.allGone();
  t.is(launched.noted(1, "drained").length, 1);
});
