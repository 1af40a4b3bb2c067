/**
 * Owns one dispatch on its way through the worker: from the ring to its completion, which the checkpoint waits for.
 */
import type { Incoming } from "./handlers.js";

export interface Work extends Incoming {
  /** Called once, when nothing of this dispatch is left to do: its mutation is in the log, its effects are out. */
  complete(): void;
}
