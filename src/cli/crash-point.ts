/**
 * Owns dying at a chosen step of a handoff, for the tests that let a process die at every one of them: really, by a signal
 * to itself that nothing can catch.
 *
 * The file holds `SIGKILL role:step` or `SIGSTOP role:step` (core/handoff.ts has the steps). Who comes to that step first
 * takes the file away, leaves its pid beside it, and sends itself the signal. Without the variable nothing is looked at.
 */
import { readFileSync, renameSync, writeFileSync } from "node:fs";

export function crashPoint(file: string | undefined): (step: string) => void {
  if (file === undefined) return () => {};
  return (step) => {
    let wanted: string;
    try {
      wanted = readFileSync(file, "utf8");
    } catch {
      return; // Nobody is to die now.
    }
    const [signal, at] = wanted.trim().split(" ");
    if (at !== step || (signal !== "SIGKILL" && signal !== "SIGSTOP")) return;
    writeFileSync(`${file}.pid`, String(process.pid));
    renameSync(file, `${file}.taken`);
    process.kill(process.pid, signal);
  };
}
