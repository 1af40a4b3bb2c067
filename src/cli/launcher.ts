/**
 * Owns the process that the user started (from a terminal, by systemd, as a container's first process) while the
 * worker's generations change below it. It loads next to nothing, since it stays: no NATS, no Discord, no schemas.
 *
 * Invariants:
 * - It passes signals on and decides nothing by them: the first that a generation gets drains, the second leaves at
 *   once (signals.ts). Generations have process groups of their own, so Ctrl-C reaches them through here alone.
 * - It ends when the last generation has, with that one's exit code; 128 + n after signal n, as in a shell.
 * - A generation that crashed is not started again: whoever started the launcher sees it end, and decides.
 * - Killed with -9 it leaves nothing: the generations see their channel close and drain (lifetime.ts).
 *
 * Ctrl-Z stops the launcher alone: a suspended worker loses its sessions, and would stay for ever if the launcher were
 * then killed. So it goes on, and what is asked of the launcher meanwhile is done after `fg` or `bg`.
 */
import { spawn } from "node:child_process";
import { constants } from "node:os";
import { messageOf } from "../core/errors.js";
import { type End, type Generation, Generations } from "../ops/generations.js";
import { exitCodes } from "./report.js";

/** @param command what follows Node's own path on the command line; read from disk again for each generation. */
export function launch(command: readonly string[]): void {
  // By its name, not by what it is now: a deploy may replace the folder.
  const cwd = process.cwd();
  const generations = new Generations({
    spawn: (args, env) =>
      spawn(process.execPath, [...command, ...args], {
        cwd,
        detached: true,
        env: { ...process.env, ...env },
        stdio: ["inherit", "inherit", "inherit", "ipc"],
      }),
    onReady: () => {},
    onEnded: (generation, end, survivor) => {
      sayIfViolent(generation, end);
      if (survivor === undefined) process.exit(exitCodeOfEnd(end));
    },
  });
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => generations.stop(signal));
  process.on("SIGHUP", () => generations.stop("SIGTERM"));
  process.on("SIGUSR2", () => {
    const newest = generations.newestReady;
    if (newest === undefined) say("SIGUSR2: the worker is not ready yet; nothing is done");
    else newest.process.kill("SIGUSR2");
  });
  try {
    generations.start();
  } catch (error) {
    say(`the worker could not be started: ${messageOf(error)}`);
    process.exit(exitCodes.failed);
  }
}

function sayIfViolent(generation: Generation, { signal, error }: End): void {
  if (error !== undefined) say(`generation ${generation.number} could not be started: ${error.message}`);
  else if (signal !== null) {
    say(`generation ${generation.number} (process ${generation.pid}) was ended by ${signal}`);
  }
}

function exitCodeOfEnd({ code, signal }: End): number {
  if (signal !== null) return 128 + constants.signals[signal];
  return code ?? exitCodes.failed;
}

function say(text: string): void {
  process.stderr.write(`guildstream: ${text}\n`);
}
