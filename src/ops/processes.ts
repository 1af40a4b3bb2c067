/** Owns what the system says of a process: its memory and its CPU time. Used by the supervisor and the benches. */
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";

const KiB = 1024;
/** sysconf(_SC_CLK_TCK): 100 on every Linux that Node runs on. */
const clockTicksPerSecond = 100;

/** Resident memory in bytes; undefined when the process is gone. */
export async function rssBytes(pid: number): Promise<number | undefined> {
  if (process.platform === "linux") {
    const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
    const kilobytes = /^VmRSS:\s+(\d+) kB/m.exec(status)?.[1];
    return kilobytes === undefined ? undefined : Number(kilobytes) * KiB;
  }
  return new Promise((resolve) => {
    execFile("ps", ["-o", "rss=", "-p", String(pid)], (error, stdout) => {
      resolve(error === null ? Number(stdout.trim()) * KiB : undefined);
    });
  });
}

/** User and system CPU time so far, in microseconds; Linux only, undefined elsewhere or when the process is gone. */
export async function cpuMicros(pid: number): Promise<number | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => undefined);
  // The name in field 2 may hold spaces, so counting starts after it (proc(5)).
  const fields = stat?.slice(stat.lastIndexOf(")") + 2).split(" ");
  if (fields === undefined) return undefined;
  return ((Number(fields[11]) + Number(fields[12])) * 1_000_000) / clockTicksPerSecond;
}
