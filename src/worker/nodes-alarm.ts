/**
 * Owns saying that no database node is live: from then on guilds stay dirty, are held in memory, and the log is all
 * there is besides. The worker goes on until its memory is full (guilds.ts).
 */
import type { DbnodeWatch } from "../cluster/dbnodes.js";
import type { Logger } from "../core/bot.js";
import { limits } from "../core/limits.js";
import { Alarm } from "./alarm.js";
import type { SavedTracker } from "./saved.js";

export class NodesAlarm {
  readonly #timer: NodeJS.Timeout;

  constructor(dbnodes: DbnodeWatch, saved: SavedTracker, log: Logger) {
    const alarm = new Alarm(log, {
      began: "dbnodes_gone",
      over: "dbnodes_back",
      beganText: "NO DATABASE NODE IS LIVE: nothing is saved, guilds are held in memory until one is back",
      overText: "a database node is live again: guilds leave memory as they are saved",
    });
    this.#timer = setInterval(() => {
      const { savedBy, watermark } = dbnodes;
      alarm.set(savedBy === 0, performance.now(), () => ({
        savedBy,
        savedUpTo: watermark,
        dirtyGuilds: saved.dirtyGuilds,
      }));
    }, limits.heartbeatIntervalMs);
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}
