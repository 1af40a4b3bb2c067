/**
 * Owns saying loudly that something is wrong for a while: once when it begins, again at a bounded interval with fresh
 * counts, once when it has been over for a moment (what comes and goes is one trouble, not many). Called with the
 * present truth again and again, as often as one likes.
 */
import type { Logger } from "../core/bot.js";
import { limits } from "../core/limits.js";

export interface AlarmTexts {
  /** Names of the events in the log. */
  began: string;
  over: string;
  beganText: string;
  overText: string;
}

export class Alarm {
  readonly #log: Logger;
  readonly #texts: AlarmTexts;
  #since: number | undefined;
  #overSince: number | undefined;
  #saidAt = 0;

  constructor(log: Logger, texts: AlarmTexts) {
    this.#log = log;
    this.#texts = texts;
  }

  set(isWrong: boolean, now: number, counts: () => object): void {
    const { began, beganText, over, overText } = this.#texts;
    if (isWrong) {
      this.#overSince = undefined;
      if (this.#since !== undefined && now - this.#saidAt < limits.alarmRepeatMs) return;
      this.#since ??= now;
      this.#saidAt = now;
      this.#log.error({ event: began, forMs: Math.round(now - this.#since), ...counts() }, beganText);
      return;
    }
    if (this.#since === undefined) return;
    this.#overSince ??= now;
    if (now - this.#overSince < limits.alarmCalmMs) return;
    this.#log.warn({ event: over, forMs: Math.round(this.#overSince - this.#since), ...counts() }, overText);
    this.#since = undefined;
    this.#overSince = undefined;
  }
}
