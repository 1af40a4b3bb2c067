/**
 * Owns the file lock that keeps two setups, or two downloads, apart.
 * Invariant: whoever holds the lock file is alive. A holder that died (kill -9, power cut) leaves the file behind;
 * the next process sees that the recorded process is gone, or is another one with the same id, and takes over.
 * Used by setup.mjs and nats-server/cache.mjs. Node builtins only: it runs before anything is installed.
 */
import { execFileSync } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, statSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

const POLL_MS = 100;
const WAIT_MAX_MS = 10 * 60_000;
/** A lock file without readable content is being written right now, or its writer died between open and write. */
const UNWRITTEN_MAX_MS = 2_000;

/** Given free on process.exit() too; after a kill the next process finds the holder dead. */
const held = new Set();
process.on("exit", () => {
  for (const file of held) rmSync(file, { force: true });
});

/**
 * Tells one process from a later one with the same id.
 * @param {number} pid
 * @returns {string | undefined} undefined where the system does not say
 */
export function processStart(pid) {
  try {
    if (process.platform === "linux") {
      const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
      // The command name may hold spaces and brackets: count from the last bracket. Start time is field 22.
      return `${boot}:${stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]}`;
    }
    if (process.platform === "win32") return undefined;
    return execFileSync("ps", ["-o", "lstart=", "-p", String(pid)], { encoding: "utf8" }).trim() || undefined;
  } catch {
    return undefined;
  }
}

/**
 * @param {number} pid
 * @param {string | undefined} start what processStart said when the id was noted
 */
export function processAlive(pid, start) {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if (error.code !== "EPERM") return false;
  }
  const now = processStart(pid);
  return start === undefined || now === undefined || now === start;
}

/**
 * Runs `work` while holding `file`; waits while a living process holds it.
 * @template T
 * @param {string} file
 * @param {() => Promise<T>} work
 * @param {{ onWait?: (holder: number) => void, waitMaxMs?: number }} [options]
 * @returns {Promise<T>}
 */
export async function withLock(file, work, { onWait = () => {}, waitMaxMs = WAIT_MAX_MS } = {}) {
  mkdirSync(dirname(file), { recursive: true });
  const deadline = Date.now() + waitMaxMs;
  let told = false;
  while (!take(file)) {
    const holder = readHolder(file);
    if (holder === "gone") continue;
    if (holder !== "unwritten" && !told) {
      told = true;
      onWait(holder.pid);
    }
    if (Date.now() > deadline) {
      throw new Error(
        `${file} has been held for more than ${waitMaxMs / 1_000} s; delete it if nothing else runs here`,
      );
    }
    if (holder === "unwritten" ? ageMs(file) > UNWRITTEN_MAX_MS : !processAlive(holder.pid, holder.start)) {
      breakStale(file, holder);
      continue;
    }
    await delay(POLL_MS);
  }
  held.add(file);
  try {
    return await work();
  } finally {
    held.delete(file);
    rmSync(file, { force: true });
  }
}

/** Creating exclusively is the only way to own the file. */
function take(file) {
  let descriptor;
  try {
    descriptor = openSync(file, "wx");
  } catch (error) {
    if (error.code === "EEXIST") return false;
    throw error;
  }
  writeSync(descriptor, JSON.stringify({ pid: process.pid, start: processStart(process.pid) }));
  closeSync(descriptor);
  return true;
}

function readHolder(file) {
  try {
    const holder = JSON.parse(readFileSync(file, "utf8"));
    return Number.isInteger(holder?.pid) ? holder : "unwritten";
  } catch (error) {
    return error.code === "ENOENT" ? "gone" : "unwritten";
  }
}

/**
 * Removes a dead holder's file. Two processes may find the same dead holder: the second must not remove the file the
 * first has meanwhile created, so removal itself happens under a second exclusive file and looks again.
 * If the process dies in between, that second file is older than a moment and is removed by the next.
 */
function breakStale(file, seen) {
  const guard = `${file}.break`;
  try {
    closeSync(openSync(guard, "wx"));
  } catch (error) {
    if (error.code !== "EEXIST") throw error;
    if (ageMs(guard) > UNWRITTEN_MAX_MS) rmSync(guard, { force: true });
    return;
  }
  if (JSON.stringify(readHolder(file)) === JSON.stringify(seen)) rmSync(file, { force: true });
  rmSync(guard, { force: true });
}

function ageMs(file) {
  try {
    return Date.now() - statSync(file).mtimeMs;
  } catch {
    return 0;
  }
}
