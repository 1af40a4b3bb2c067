/** Owns the pauses of the guilds that have moved, in milliseconds, for their percentiles. */
import { limits } from "../../core/limits.js";

export class Pauses {
  readonly #pausesMs: number[] = [];
  #maxMs = 0;

  add(pausesMs: readonly number[]): void {
    for (const pauseMs of pausesMs) {
      this.#maxMs = Math.max(this.#maxMs, pauseMs);
      if (this.#pausesMs.length < limits.hotbootPausesMax) this.#pausesMs.push(pauseMs);
    }
  }

  summary(): { pauseP50Ms: number; pauseP99Ms: number; pauseMaxMs: number } {
    const sorted = this.#pausesMs.toSorted((a, b) => a - b);
    const at = (share: number): number =>
      sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
    return { pauseP50Ms: at(0.5), pauseP99Ms: at(0.99), pauseMaxMs: this.#maxMs };
  }
}
