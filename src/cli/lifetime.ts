/**
 * Owns how long a role runs: until a signal, until its supervisor is gone, until it fails by itself, or until it has
 * handed everything to a successor (hotboot).
 *
 * Invariants:
 * - The first SIGINT, SIGTERM or SIGHUP drains, and says so; the second leaves at once with exit code 130.
 * - A supervised role (GUILDSTREAM_SUPERVISED=1) drains and ends when the channel to its supervisor closes: it never
 *   outlives the supervisor, however that died.
 * - A hotboot that comes to nothing changes nothing: the role goes on, and may be asked again.
 */
import { messageOf } from "../core/errors.js";
import { limits } from "../core/limits.js";
import type { RoleMessage } from "../ops/role-message.js";
import { exitCodes } from "./report.js";
import { watchSignalFile } from "./signal-file.js";
import { onStopRequest } from "./signals.js";

export interface Role {
  /** Drains; afterwards nothing of the role is left running. */
  stop(): Promise<void>;
  /** Rejects when the role cannot go on. */
  failed?: Promise<never> | undefined;
  /**
   * Starts a successor (successor.ts) and hands everything to it. Resolves once nothing is left here; rejects when the
   * role goes on as before. `stop` may be called meanwhile. Roles without it cannot be replaced while they run.
   */
  hotboot?(): Promise<void>;
  /** Resolves when a hotboot that nobody in this process asked for has left nothing here. */
  replaced?: Promise<void> | undefined;
}

/** The reason of the abort when the channel to the supervisor has closed. */
export const supervisorGone = "supervisor gone";

/** In the working directory; `npm run build && touch .hotboot` asks every worker started there. */
export const signalFile = ".hotboot";

export const isSupervised = process.env.GUILDSTREAM_SUPERVISED === "1" && process.connected === true;

/** Tells the supervisor, if there is one. */
export function tellSupervisor(message: RoleMessage): void {
  if (!isSupervised || !process.connected) return;
  process.send!(message, undefined, undefined, () => {}); // It may be gone by now; then nobody wants to know.
}

/** Aborts once somebody asks this process to stop; installed first, so that it also works while a role boots. */
export function stopSignal(say: (text: string) => void): AbortSignal {
  const controller = new AbortController();
  onStopRequest((signal, isFirst) => {
    if (!isFirst) process.exit(exitCodes.interrupted);
    say(`${signal}: finishing what was begun (again: leave at once)`);
    controller.abort(signal);
  });
  process.on("SIGUSR2", () => onHotbootRequest("SIGUSR2", say));
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

/**
 * Runs a booted role until it is to stop or has handed everything over, then drains it. Rejects with the role's own
 * failure. `say` is told what becomes of hotboots.
 */
export async function runUntilStopped(
  role: Role,
  stop: AbortSignal,
  say: (text: string) => void,
): Promise<void> {
  const hotboots = awaitHotboot(role, say);
  try {
    const never = new Promise<never>(() => {});
    await Promise.race([aborted(stop), role.failed ?? never, role.replaced ?? never, hotboots.handedOver]);
  } finally {
    hotboots.close();
    await role.stop();
  }
}

/** Before and after a role runs there is nothing to hand over; SIGUSR2 by itself would end the process. */
const noHotbootNow = (by: string, say: (text: string) => void): void => {
  say(`${by}: not running, so nothing is handed over`);
};
let onHotbootRequest = noHotbootNow;

function awaitHotboot(role: Role, say: (text: string) => void): { handedOver: Promise<void>; close(): void } {
  let handOver!: () => void;
  const handedOver = new Promise<void>((resolve) => {
    handOver = resolve;
  });
  let isUnderWay = false;
  let isClosed = false;
  const ask = async (by: string): Promise<void> => {
    if (role.hotboot === undefined)
      return say(`${by}: this process knows no hotboot; stop it and start it again`);
    if (isUnderWay) return say(`${by}: a hotboot is under way already`);
    isUnderWay = true;
    say(`${by}: hotboot`);
    try {
      await role.hotboot();
      handOver();
    } catch (error) {
      if (isClosed) return;
      say(`the hotboot came to nothing, going on as before: ${messageOf(error)}`);
      isUnderWay = false;
    }
  };
  onHotbootRequest = (by) => void ask(by);
  const unwatch =
    role.hotboot === undefined ? () => {} : watchSignalFile(signalFile, () => void ask(signalFile));
  return {
    handedOver,
    close() {
      isClosed = true;
      unwatch();
      onHotbootRequest = noHotbootNow;
    },
  };
}
