/**
 * Owns running npm and the compiler: their output on stderr as it comes, and an end in order on Ctrl-C. The terminal
 * sends the signal to the child as well; we wait for it, so that nothing still writes after we are gone.
 * Used by install.mjs and build.mjs.
 */
import { spawn } from "node:child_process";
import { basename } from "node:path";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"];

/** Rejects unless the program exits with 0; `interrupted` is set on the error after a signal to us. */
export function runChild(program, args, cwd) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd, stdio: ["ignore", 2, 2], shell: program.endsWith(".cmd") });
    let interrupted = false;
    const onSignal = () => {
      interrupted = true;
      child.kill("SIGTERM");
    };
    for (const signal of SIGNALS) process.on(signal, onSignal);
    const finish = (error) => {
      for (const signal of SIGNALS) process.removeListener(signal, onSignal);
      if (interrupted) reject(Object.assign(new Error("interrupted"), { interrupted }));
      else if (error) reject(error);
      else resolve();
    };
    child.on("error", finish);
    child.on("close", (code, signal) => {
      const name = args.map((arg) => basename(arg)).find((arg) => arg !== "npm-cli.js") ?? basename(program);
      finish(code === 0 ? undefined : new Error(`${name} failed (${signal ?? `exit ${code}`}); see above`));
    });
  });
}
