/**
 * Owns the mutations of one guild that go into one event together: their ops as text, their effects, the dispatches
 * they came from. Pure bookkeeping; the guild decides when it goes.
 *
 * Invariant: `works` holds every dispatch whose outcome depends on this batch, in order: those that mutated and those
 * that only looked after them (their answers may tell of state that is not in the log yet).
 */
import type { Cause, Effect } from "../core/event.js";
import { limits } from "../core/limits.js";
import type { Work } from "./work.js";

export class Batch {
  opsJson = "";
  mutations = 0;
  cause: Cause | undefined;
  readonly effects: Effect[] = [];
  readonly works: Work[] = [];
  #effectsLength = 0;

  /** Takes no more: it goes into the log before the guild goes on. */
  get isFull(): boolean {
    return (
      this.mutations >= limits.eventMutationsMax ||
      this.opsJson.length + this.#effectsLength >= limits.eventOpsMaxBytes
    );
  }

  mutate(opsJson: string, cause: Cause): void {
    this.opsJson = this.opsJson === "" ? opsJson : `${this.opsJson},${opsJson}`;
    this.mutations += 1;
    this.cause = cause;
  }

  take(work: Work, effects: readonly Effect[]): void {
    this.works.push(work);
    for (const effect of effects) {
      this.effects.push(effect);
      this.#effectsLength += JSON.stringify(effect).length;
    }
  }
}
