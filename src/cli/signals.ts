/**
 * Owns what counts as one request to stop, for roles (lifetime.ts) and for `guildstream start`.
 *
 * One request may come by several ways: npm passes on the Ctrl-C that the terminal has sent to everybody already,
 * systemd signals every process of a unit and the launcher passes its own on. Taken for a second one, it would make a
 * process leave at once that was to drain. So whatever comes within `limits.signalEchoMs` of a request belongs to it.
 */
import { limits } from "../core/limits.js";

/** Calls back for each request, told whether an earlier one came before it. */
export function onStopRequest(asked: (signal: string, isFirst: boolean) => void): void {
  let requestedAt: number | undefined;
  const onSignal = (signal: string): void => {
    const now = performance.now();
    const isFirst = requestedAt === undefined;
    if (requestedAt !== undefined && now - requestedAt < limits.signalEchoMs) return;
    requestedAt = now;
    asked(signal, isFirst);
  };
  for (const stream of [process.stdout, process.stderr]) {
    // The terminal was closed (SIGHUP): what is to be finished must not end by having nobody to tell.
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EIO") throw error;
    });
  }
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, onSignal);
}
