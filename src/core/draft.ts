/**
 * Owns the step from a handler's mutations to the ops of an event: a draft of the state, the recipe, the ops.
 *
 * Invariants:
 * - The ops, applied to the old state by fast-json-patch, give the next state exactly (design: "the guild log", 6).
 * - The old state is never touched: a recipe that throws, or that left something that is not JSON, changes nothing.
 * - State is plain JSON. `undefined` is an error and not a removal: JSON has no word for it, and the state in memory
 *   would differ from the one in the log. Delete the key instead.
 *
 * What a recipe puts into the state belongs to the state from then on; keeping a reference and changing it later is
 * the recipe's bug, and drafts are dead once it is over.
 *
 * Used by the worker. Mutative was chosen by measure: scripts/bench/drafting.ts.
 */
import type { Operation } from "fast-json-patch";
import { create } from "mutative";
import { GuildstreamError, messageOf } from "./errors.js";
import { limits } from "./limits.js";

export interface Drafted<State> {
  /** The old state itself when nothing changed. */
  state: State;
  ops: Operation[];
  changed: boolean;
}

const draftOptions = {
  enablePatches: { pathAsArray: false, arrayLengthAssignment: false },
  enableAutoFreeze: false,
} as const;

/**
 * Runs a recipe on a draft of the state. What it returns is ignored, so that an expression will do for a body.
 * A recipe without a promise costs none.
 *
 * @throws whatever the recipe throws; GuildstreamError STATE_INVALID with the place of a value that is not JSON.
 */
export function runDraft<State extends object>(state: State, recipe: (draft: State) => void): Drafted<State>;
export function runDraft<State extends object>(
  state: State,
  recipe: (draft: State) => unknown,
): Drafted<State> | Promise<Drafted<State>>;
export function runDraft<State extends object>(
  state: State,
  recipe: (draft: State) => unknown,
): Drafted<State> | Promise<Drafted<State>> {
  const [draft, finalize] = create(state, draftOptions) as unknown as [State, Finalize];
  let result: unknown;
  try {
    result = recipe(draft);
  } catch (error) {
    discard(finalize);
    throw error;
  }
  if (!isThenable(result)) return finish(state, finalize);
  return Promise.resolve(result).then(
    () => finish(state, finalize),
    (error: unknown) => {
      discard(finalize);
      throw error;
    },
  );
}

/** Revokes the draft and gives the next state, the ops, and the inverse ops that nobody needs. */
type Finalize = () => [unknown, Operation[], Operation[]];

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as PromiseLike<unknown> | null | undefined)?.then === "function";
}

function finish<State extends object>(state: State, finalize: Finalize): Drafted<State> {
  let next: unknown;
  let ops: Operation[];
  try {
    [next, ops] = finalize();
  } catch (error) {
    // A draft inside itself, say.
    throw invalid(messageOf(error), "", error);
  }
  if (ops.length === 0) return { state, ops, changed: false };
  for (const op of ops) {
    assertSafePointer(op.path);
    if ("value" in op) assertPlainJson(op.value, op.path);
  }
  return { state: next as State, ops, changed: true };
}

/** Kills the drafts of a recipe that failed; its result, or what finalizing throws, is of no interest. */
function discard(finalize: Finalize): void {
  try {
    finalize();
  } catch {
    // The draft held something that cannot even be finalized; the recipe's own error is the one to report.
  }
}

const refusedKeys = new Set(["__proto__", "constructor", "prototype"]);

function assertSafePointer(pointer: string): void {
  if (!pointer.includes("o")) return; // every refused key has one; most pointers cost no split
  const segment = pointer.split("/").find((part) => refusedKeys.has(part));
  if (segment !== undefined) throw invalid(`the key "${segment}" is refused`, pointer);
}

/**
 * Refuses what JSON cannot carry unchanged, and keys that reach a prototype.
 *
 * @throws GuildstreamError STATE_INVALID that names the place.
 */
export function assertPlainJson(value: unknown, pointer = "", depth = 0): void {
  switch (typeof value) {
    case "string":
    case "boolean":
      return;
    case "number":
      if (!Number.isFinite(value)) throw invalid(`${value} is not JSON`, pointer);
      return;
    case "undefined":
      throw invalid("undefined is not JSON; delete the key instead", pointer);
    case "object":
      break;
    default:
      throw invalid(`a ${typeof value} is not JSON`, pointer);
  }
  if (value === null) return;
  // A value that holds itself ends here too.
  if (depth >= limits.stateDepthMax) throw invalid(`deeper than ${limits.stateDepthMax} levels`, pointer);
  if (Array.isArray(value)) {
    for (let index = 0; index < value.length; index += 1) {
      assertPlainJson(value[index], `${pointer}/${index}`, depth + 1);
    }
    return;
  }
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) {
    throw invalid(`a ${prototype.constructor?.name ?? "class instance"} is not plain JSON`, pointer);
  }
  for (const [key, child] of Object.entries(value)) {
    if (refusedKeys.has(key)) throw invalid(`the key "${key}" is refused`, pointer);
    assertPlainJson(child, `${pointer}/${escapeSegment(key)}`, depth + 1);
  }
}

/** A key as a segment of a JSON pointer (RFC 6901). */
function escapeSegment(key: string): string {
  return key.replaceAll("~", "~0").replaceAll("/", "~1");
}

function invalid(what: string, pointer: string, cause?: unknown): GuildstreamError {
  return new GuildstreamError("STATE_INVALID", `the state cannot take this at "${pointer}": ${what}`, {
    cause,
    hint: "guild state is plain JSON: texts, finite numbers, true, false, null, arrays and plain objects",
  });
}
