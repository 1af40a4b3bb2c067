/**
 * Owns how long a role runs: until a signal, until its supervisor is gone, or until it fails by itself.
 *
 * Invariants:
 * - The first SIGINT or SIGTERM drains, and says so; the second leaves at once with exit code 130.
 * - A supervised role (GUILDSTREAM_SUPERVISED=1) drains and ends when the channel to its supervisor closes: it never
 *   outlives the supervisor, however that died.
 */
import { limits } from "../core/limits.js";
import type { RoleMessage } from "../ops/start/role-message.js";
import { exitCodes } from "./report.js";

export interface Role {
  /** Drains; afterwards nothing of the role is left running. */
  stop(): Promise<void>;
  /** Rejects when the role cannot go on. */
  failed?: Promise<never> | undefined;
}

/** The reason of the abort when the channel to the supervisor has closed. */
export const supervisorGone = "supervisor gone";

export const isSupervised = process.env.GUILDSTREAM_SUPERVISED === "1" && process.connected === true;

/** Tells the supervisor, if there is one. */
export function tellSupervisor(message: RoleMessage): void {
  if (!isSupervised || !process.connected) return;
  process.send!(message, undefined, undefined, () => {}); // It may be gone by now; then nobody wants to know.
}

/** Aborts once somebody asks this process to stop; installed first, so that it also works while a role boots. */
export function stopSignal(say: (text: string) => void): AbortSignal {
  const controller = new AbortController();
  const onSignal = (signal: string): void => {
    if (controller.signal.aborted) process.exit(exitCodes.interrupted);
    say(`${signal}: finishing what was begun (again: leave at once)`);
    controller.abort(signal);
  };
  process.on("SIGINT", onSignal);
  process.on("SIGTERM", onSignal);
  if (isSupervised) {
    process.on("disconnect", () => {
      if (controller.signal.aborted) return;
      say("the supervisor is gone: finishing what was begun");
      controller.abort(supervisorGone);
      // Nobody is left to see to it that the drain ends.
      setTimeout(
        () => process.exit(exitCodes.failed),
        limits.drainTimeoutMs + limits.natsRequestTimeoutMs,
      ).unref();
    });
  }
  return controller.signal;
}

/** Resolves when the signal has come. */
export function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}

/** Runs a booted role until it is to stop, then drains it. Rejects with the role's own failure. */
export async function runUntilStopped(role: Role, stop: AbortSignal): Promise<void> {
  try {
    await Promise.race([aborted(stop), role.failed ?? new Promise<never>(() => {})]);
  } finally {
    await role.stop();
  }
}
