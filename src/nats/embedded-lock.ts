/**
 * Owns who may run a server on a data folder: one process, written down in `embedded.lock` (its id and start time,
 * and the server's). Invariant: two servers never share a store.
 * If the owner dies without stopping its server (kill -9), the file names a dead owner and a living server: the next
 * owner ends that server first, by its recorded identity, and takes the folder. Used by embedded.ts.
 */
import { execFileSync } from "node:child_process";
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { GuildstreamError } from "../core/errors.js";
import { limits } from "../core/limits.js";

const LOCK_FILE = "embedded.lock";
const POLL_MS = 20;

interface ProcessIdentity {
  pid: number;
  /** Tells a process from a later one with the same id; null where the system does not say. */
  start: string | null;
}

interface LockContent {
  owner: ProcessIdentity;
  server: ProcessIdentity | null;
}

/** The folders this process holds: its own id in a lock file proves nothing between two servers in one process. */
const held = new Set<string>();

export interface DataDirLock {
  /** To be called as soon as a server process exists. */
  noteServer(pid: number): void;
  release(): void;
}

/** Takes the folder, ending a server that a dead owner left behind. */
export async function lockDataDir(dataDir: string): Promise<DataDirLock> {
  const path = join(dataDir, LOCK_FILE);
  if (held.has(path)) throw inUse(dataDir, process.pid);
  held.add(path);
  const owner = identify(process.pid);
  try {
    while (!create(path, { owner, server: null })) {
      const content = read(path);
      if (content) {
        if (content.owner.pid !== process.pid && isAlive(content.owner))
          throw inUse(dataDir, content.owner.pid);
        if (content.server) await end(content.server, dataDir);
      }
      // Renamed away rather than deleted: of two processes that found the same dead owner only one succeeds.
      const stale = `${path}.${process.pid}.stale`;
      try {
        renameSync(path, stale);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
      }
      rmSync(stale, { force: true });
    }
  } catch (error) {
    held.delete(path);
    throw error;
  }
  return {
    noteServer(pid) {
      // Whole or not at all: a torn file would hide a server from the next owner.
      writeFileSync(`${path}.tmp`, JSON.stringify({ owner, server: identify(pid) }));
      renameSync(`${path}.tmp`, path);
    },
    release() {
      rmSync(path, { force: true });
      held.delete(path);
    },
  };
}

function create(path: string, content: LockContent): boolean {
  try {
    writeFileSync(path, JSON.stringify(content), { flag: "wx" });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

function read(path: string): LockContent | undefined {
  try {
    return JSON.parse(readFileSync(path, "utf8")) as LockContent;
  } catch {
    return undefined; // gone meanwhile, or cut off by a crash: then no server was noted yet
  }
}

async function end(server: ProcessIdentity, dataDir: string): Promise<void> {
  for (const signal of ["SIGTERM", "SIGKILL"] as const) {
    const deadline = Date.now() + limits.embeddedStopTimeoutMs;
    if (isAlive(server)) process.kill(server.pid, signal);
    while (isAlive(server) && Date.now() < deadline) await delay(POLL_MS);
    if (!isAlive(server)) return;
  }
  throw inUse(dataDir, server.pid);
}

function inUse(dataDir: string, pid: number): GuildstreamError {
  return new GuildstreamError("DATA_DIR_IN_USE", `${dataDir} is in use by a server of process ${pid}`, {
    hint: "Stop that process, or give this one another data folder.",
  });
}

function identify(pid: number): ProcessIdentity {
  return { pid, start: processStart(pid) };
}

function isAlive(identity: ProcessIdentity): boolean {
  try {
    process.kill(identity.pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EPERM") return false;
  }
  const start = processStart(identity.pid);
  return identity.start === null || start === null || start === identity.start;
}

/** As in scripts/lock.mjs, which must work before anything is compiled. A zombie counts as dead. */
function processStart(pid: number): string | null {
  try {
    if (process.platform === "linux") {
      const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
      const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      return fields[0] === "Z" ? "zombie" : `${boot}:${fields[19]}`;
    }
    if (process.platform === "win32") return null;
    return execFileSync("ps", ["-o", "lstart=", "-p", String(pid)], { encoding: "utf8" }).trim() || null;
  } catch {
    return null;
  }
}
