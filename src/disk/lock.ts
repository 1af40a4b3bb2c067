/**
 * Owns the lock of a data folder: a file with the pid of the one process that may write there.
 *
 * Invariants:
 * - Two live processes never both hold a folder.
 * - A lock whose process is gone (kill -9, power loss, a container that starts again with the same pid) is stale and
 *   taken over; a pid alone does not prove life, so the process' start time is kept beside it where the system tells.
 *
 * Used by the store alone.
 */
import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { GuildstreamError } from "../core/errors.js";

interface Holder {
  pid: number;
  /** The process' start in the system's own count; "" where it is not told. */
  startedAt: string;
}

/** Locks of this very process: a pid cannot tell two stores of one process apart. */
const heldHere = new Set<string>();

/**
 * Takes the folder (made if missing); returns how to let it go.
 * @throws GuildstreamError DATA_DIR_IN_USE, with the pid of who holds it.
 */
export function lockFolder(folder: string): () => void {
  mkdirSync(folder, { recursive: true });
  const path = join(folder, "node.lock");
  if (heldHere.has(path)) throw inUse(folder, process.pid);
  const own = `${path}.${process.pid}`;
  writeFileSync(own, JSON.stringify({ pid: process.pid, startedAt: startOf(process.pid) } satisfies Holder));
  try {
    // A link is made whole or not at all: nobody ever reads a lock that is half written.
    for (let attempt = 0; !tryLink(own, path); attempt += 1) {
      const text = readText(path);
      const holder = text === undefined ? undefined : parseHolder(text);
      if ((holder !== undefined && isAlive(holder)) || attempt >= 10) throw inUse(folder, holder?.pid);
      if (text !== undefined) removeStale(path, text);
    }
  } finally {
    rmSync(own, { force: true });
  }
  heldHere.add(path);
  return () => {
    heldHere.delete(path);
    rmSync(path, { force: true });
  };
}

function tryLink(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw new GuildstreamError("DISK_FAILED", `cannot lock ${to}`, { cause: error });
  }
}

/** Two processes may find the same stale lock: the rename lets one have it, and tells if it took a fresh one instead. */
function removeStale(path: string, staleText: string): void {
  const aside = `${path}.stale.${process.pid}`;
  try {
    renameSync(path, aside);
  } catch {
    return;
  }
  if (readText(aside) !== staleText) tryLink(aside, path);
  rmSync(aside, { force: true });
}

function parseHolder(text: string): Holder | undefined {
  try {
    const value = JSON.parse(text) as Partial<Holder>;
    if (!Number.isSafeInteger(value.pid)) return undefined;
    return { pid: value.pid!, startedAt: String(value.startedAt ?? "") };
  } catch {
    return undefined;
  }
}

function isAlive(holder: Holder): boolean {
  const startedAt = startOf(holder.pid);
  if (holder.startedAt !== "" && startedAt !== "") return startedAt === holder.startedAt;
  if (holder.pid === process.pid) return false; // Not in `heldHere`: the pid of an earlier life.
  try {
    process.kill(holder.pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** Field 22 of /proc/<pid>/stat (proc(5)); the name in field 2 may hold spaces, so counting starts after it. */
function startOf(pid: number): string {
  const stat = readText(`/proc/${pid}/stat`);
  return stat?.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "";
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

function inUse(folder: string, pid: number | undefined): GuildstreamError {
  return new GuildstreamError("DATA_DIR_IN_USE", `${folder} is in use by process ${pid ?? "(starting)"}`, {
    hint: "give each database node a data folder of its own (--data), or stop the other one",
  });
}
