/** Each touch of the file after this process began is taken once by everybody who watches; what was seen goes away. */
import { existsSync } from "node:fs";
import { mkdir, readFile, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { watchSignalFile } from "../../src/cli/signal-file.js";
import { limits } from "../../src/core/limits.js";
import { until } from "../helpers/cluster.js";
import { tempDir } from "../helpers/nats.js";

class Watcher {
  seen = 0;

  constructor(t: ExecutionContext, path: string) {
    t.teardown(watchSignalFile(path, () => (this.seen += 1)));
  }
}

/** As `touch`, at a time of our own. */
async function touch(path: string, at: Date): Promise<void> {
  await writeFile(path, "");
  await utimes(path, at, at);
}

/** Everybody has looked at the file since: a watcher that began later has seen it and its removal. */
async function isGone(path: string): Promise<void> {
  await until("the file is removed", () => !existsSync(path));
}

test("one touch reaches all who watch the folder, once, and then the file goes", async (t) => {
  const path = join(await tempDir(t), ".hotboot");
  const startedAt = performance.now();
  const watchers = [1, 2, 3].map(() => new Watcher(t, path));
  await writeFile(path, "");
  await until("all have seen it", () => watchers.every(({ seen }) => seen === 1));
  t.true(performance.now() - startedAt < limits.signalFilePollMs, "the system's notice came first");
  t.true(existsSync(path), "it stays for those who look seldom");
  await isGone(path);
  t.deepEqual(
    watchers.map(({ seen }) => seen),
    [1, 1, 1],
  );
  await writeFile(path, "");
  await until("all have seen the second", () => watchers.every(({ seen }) => seen === 2));
});

test("a second touch before the file is gone counts again", async (t) => {
  const path = join(await tempDir(t), ".hotboot");
  const watcher = new Watcher(t, path);
  await writeFile(path, "");
  await until("seen", () => watcher.seen === 1);
  const { mtimeMs } = await stat(path);
  const later = new Date(mtimeMs + limits.signalEchoMs + 1);
  await utimes(path, later, later);
  await until("seen again", () => watcher.seen === 2);
  await isGone(path);
  t.is(watcher.seen, 2);
});

test("a file that is made, written and dated is one touch", async (t) => {
  const path = join(await tempDir(t), ".hotboot");
  const watcher = new Watcher(t, path);
  await writeFile(path, "");
  await until("seen", () => watcher.seen === 1);
  const { mtimeMs } = await stat(path);
  const later = new Date(mtimeMs + 20);
  await utimes(path, later, later);
  await isGone(path);
  t.is(watcher.seen, 1);
});

test("a file from before this process is ignored and removed", async (t) => {
  const path = join(await tempDir(t), ".hotboot");
  await touch(path, new Date(performance.timeOrigin - 10_000));
  const watcher = new Watcher(t, path);
  await isGone(path);
  t.is(watcher.seen, 0);
});

test("a touch while this process booted is for it", async (t) => {
  const path = join(await tempDir(t), ".hotboot");
  await touch(path, new Date((performance.timeOrigin + Date.now()) / 2));
  const watcher = new Watcher(t, path);
  await until("seen", () => watcher.seen === 1);
  t.pass();
});

test("a file from the future, found at boot, is ignored: every successor would take it again", async (t) => {
  const path = join(await tempDir(t), ".hotboot");
  await touch(path, new Date(Date.now() + 3_600_000));
  const watcher = new Watcher(t, path);
  await isGone(path);
  t.is(watcher.seen, 0);
});

test("it is found where the system tells of no change: the folder was replaced under its name", async (t) => {
  const folder = join(await tempDir(t), "app");
  await mkdir(folder);
  const path = join(folder, ".hotboot");
  const watcher = new Watcher(t, path);
  await rename(folder, `${folder}.old`);
  await rm(`${folder}.old`, { recursive: true });
  await mkdir(folder);
  await writeFile(path, "");
  await until("seen", () => watcher.seen === 1);
  t.pass();
});

test("other files are nobody's signal, and after the end nothing is", async (t) => {
  const folder = await tempDir(t);
  const path = join(folder, ".hotboot");
  let seen = 0;
  const close = watchSignalFile(path, () => (seen += 1));
  await writeFile(join(folder, "hotboot"), "");
  const other = new Watcher(t, path);
  close();
  await writeFile(path, "");
  await until("the other one has seen it", () => other.seen === 1);
  await isGone(path);
  t.is(seen, 0);
});

test("the file stays for longer than two slow looks", (t) => {
  t.true(limits.signalFileKeepMs > 2 * limits.signalFilePollMs);
});

test("git does not keep it", async (t) => {
  t.regex(await readFile(".gitignore", "utf8"), /^\.hotboot$/m);
});
