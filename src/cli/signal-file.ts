/**
 * Owns the file that asks for a hotboot: `npm run build && touch .hotboot`, in the folder where workers were started.
 *
 * The rule: each worker takes each touch that came after its own process began, once. So one touch reaches every worker
 * of the folder, whoever sees it first; a file from before is not for a process that runs newer code anyway (a
 * successor, or one that was started again), while a touch during a successor's boot is for that successor.
 * What was seen is removed some seconds later, when everybody has seen it: a receipt, and nothing depends on it.
 *
 * The system's notice of changes is only the fast way: where there is none (network file systems), or the folder was
 * replaced under its name, the slow look at the file finds it.
 */
import { type FSWatcher, watch } from "node:fs";
import { rm, stat } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { limits } from "../core/limits.js";

/** Calls back for every touch that is for this process, from now on. Returns what ends the watch. */
export function watchSignalFile(path: string, onSeen: () => void): () => void {
  let lastMs: number | undefined;
  let isFirstLook = true;
  let isClosed = false;
  const look = async (): Promise<void> => {
    const touchedMs = await touchedAtMs(path);
    if (isClosed) return;
    const isOfNow = !isFirstLook || (touchedMs ?? 0) <= Date.now();
    isFirstLook = false;
    if (touchedMs === undefined || touchedMs === lastMs) return;
    // `touch` makes a file and then sets its time; `echo >` makes it and then writes.
    const isEcho = lastMs !== undefined && Math.abs(touchedMs - lastMs) < limits.signalEchoMs;
    lastMs = touchedMs;
    setTimeout(() => void removeSeen(path, touchedMs), limits.signalFileKeepMs).unref();
    // A time to come, found at boot, says nothing; taking it would make every successor take it again.
    if (touchedMs > performance.timeOrigin && isOfNow && !isEcho) onSeen();
  };
  const watcher = watchFolder(path, () => void look());
  const poll = setInterval(() => void look(), limits.signalFilePollMs);
  poll.unref();
  void look();
  return () => {
    isClosed = true;
    watcher?.close();
    clearInterval(poll);
  };
}

/** The folder, since the file is not there yet. */
function watchFolder(path: string, onChange: () => void): FSWatcher | undefined {
  try {
    const watcher = watch(dirname(path), { persistent: false }, (_, name) => {
      if (name === null || name === basename(path)) onChange();
    });
    watcher.on("error", () => watcher.close());
    return watcher;
  } catch {
    return undefined; // The system has no watch left to give: the slow look remains.
  }
}

/** Undefined: not there, or not to be seen. In whole milliseconds, as the clock it is compared with. */
async function touchedAtMs(path: string): Promise<number | undefined> {
  const stats = await stat(path).catch(() => undefined);
  return stats === undefined ? undefined : Math.floor(stats.mtimeMs);
}

/** Unless it was touched again: that one has its own time to be seen in. Several processes may do this at once. */
async function removeSeen(path: string, touchedMs: number): Promise<void> {
  if ((await touchedAtMs(path)) === touchedMs) await rm(path, { force: true }).catch(() => {});
}
