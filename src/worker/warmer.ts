/**
 * Owns loading guilds ahead of their next dispatch, after their worker has died: paced, so that the dispatches of now
 * are not slowed, and only while memory has room.
 *
 * A convenience: a guild that is not warmed is loaded when its next dispatch comes. If the process dies here, nothing
 * is missing. Called by a worker's life when it claims a dead worker's shard.
 */
import type { Logger } from "../core/bot.js";
import { messageOf } from "../core/errors.js";
import { limits } from "../core/limits.js";
import type { Guilds } from "./guilds.js";

export interface WarmerOptions {
  guilds: Guilds;
  /** All guilds that the log knows. */
  guildIds(): Promise<Set<string>>;
  log: Logger;
}

const tickMs = 50;

export class Warmer {
  readonly #options: WarmerOptions;
  readonly #waiting = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(options: WarmerOptions) {
    this.#options = options;
  }

  /** Loads the guilds that the predicate picks, in time. */
  warm(isWanted: (guildId: string) => boolean): void {
    this.#options.guildIds().then(
      (ids) => {
        for (const id of ids) if (isWanted(id)) this.#waiting.add(id);
        if (!this.#stopped) this.#timer ??= setInterval(() => this.#tick(), tickMs);
      },
      (error: unknown) => {
        const text = "guilds are loaded as their dispatches come";
        this.#options.log.warn({ event: "warming_failed", error: messageOf(error) }, text);
      },
    );
  }

  stop(): void {
    this.#stopped = true;
    clearInterval(this.#timer);
    this.#waiting.clear();
  }

  #tick(): void {
    const { guilds, log } = this.#options;
    let room = Math.ceil((limits.warmLoadsPerSecond * tickMs) / 1_000);
    for (const guildId of this.#waiting) {
      if (room === 0) return;
      this.#waiting.delete(guildId);
      if (guilds.usedShare > limits.warmMemoryShare) this.#waiting.clear();
      else if (guilds.warm(guildId)) room -= 1;
    }
    clearInterval(this.#timer);
    this.#timer = undefined;
    log.info({ event: "warmed" }, "the guilds of dead workers are in memory again, as far as it has room");
  }
}
