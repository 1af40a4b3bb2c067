/**
 * Owns how a command ends badly: what is said, and the exit code.
 *
 * 0 done, and what was to hold holds; 1 the world is wrong (one block: what happened, what to do), or our own bug (with
 * its stack); 2 the command line is wrong; 130 left at once by a second signal; 128 + n a worker, under its launcher, that
 * signal n has ended.
 */
import { GuildstreamError, messageOf } from "../core/errors.js";

export const exitCodes = { ok: 0, failed: 1, usage: 2, interrupted: 130 } as const;

/** The block for people; with `debug` the stack and its causes as well. */
export function errorBlock(error: unknown, debug = false): string {
  if (!(error instanceof GuildstreamError)) {
    const stack = error instanceof Error ? error.stack : undefined;
    return `error: ${stack ?? messageOf(error)}\n`;
  }
  const hint = error.hint === undefined ? "" : `what to do: ${error.hint}\n`;
  const stack = debug ? `${stackOf(error)}\n` : "";
  return `error ${error.code}: ${error.message}\n${hint}${stack}`;
}

export function exitCodeOf(error: unknown): number {
  const wrongUse = error instanceof GuildstreamError && error.code === "CONFIG_INVALID";
  return wrongUse ? exitCodes.usage : exitCodes.failed;
}

function stackOf(error: Error): string {
  const cause = error.cause instanceof Error ? `\ncaused by ${stackOf(error.cause)}` : "";
  return `${error.stack ?? error.message}${cause}`;
}
