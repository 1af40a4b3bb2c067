/**
 * Owns the guild document (state and where in the log it stands) and the fold: how a message of the log moves it.
 *
 * Invariants:
 * - I2: revisions are gapless, epochs never fall. A message that breaks this is refused, with a reason.
 * - I3: fold(events) = snapshot = worker state = database document at equal revision.
 * - JSON Patch is not idempotent, so every apply is gated by revision: an old message is "old", not an error.
 *
 * Used by the database nodes and by the worker's loader; pure.
 */
import fastJsonPatch from "fast-json-patch";
import { messageOf } from "./errors.js";
import type { Cursor, LogMessage } from "./event.js";

const { applyPatch } = fastJsonPatch;

/** A guild as the log has made it. `state` is undefined before the first event and after a tombstone. */
export interface GuildDocument {
  state: unknown;
  rev: number;
  epoch: number;
  seq: number;
  by: string;
  cursor: Cursor | null;
}

/** The document of a guild that the log does not know. */
export function emptyDocument(): GuildDocument {
  return { state: undefined, rev: 0, epoch: 0, seq: 0, by: "", cursor: null };
}

export type FoldResult =
  | { outcome: "applied"; document: GuildDocument }
  | { outcome: "old" }
  | { outcome: "refused"; reason: string };

/**
 * Applies one message of the guild's subject, at its stream sequence.
 *
 * Guarantees: on "applied" the document is a new one, but shares (and may have mutated) the old state, which the
 * caller gives up; on "refused" the old document is as it was.
 */
export function fold(document: GuildDocument, message: LogMessage, seq: number): FoldResult {
  if (seq <= document.seq) return { outcome: "old" };
  if (message.epoch < document.epoch) {
    return { outcome: "refused", reason: `epoch fell from ${document.epoch} to ${message.epoch}` };
  }
  switch (message.kind) {
    case "snapshot":
      if (message.rev < document.rev) {
        return { outcome: "refused", reason: `snapshot of revision ${message.rev} after ${document.rev}` };
      }
      return {
        outcome: "applied",
        document: {
          state: message.state,
          rev: message.rev,
          epoch: message.epoch,
          seq,
          by: message.by,
          cursor: message.cursor,
        },
      };
    case "tombstone":
      return {
        outcome: "applied",
        document: {
          state: undefined,
          rev: message.rev,
          epoch: message.epoch,
          seq,
          by: message.by,
          cursor: null,
        },
      };
    case "event": {
      if (message.rev <= document.rev) {
        return { outcome: "refused", reason: `revision ${message.rev} again after ${document.rev}` };
      }
      if (message.rev !== document.rev + 1) {
        return { outcome: "refused", reason: `gap: revision ${message.rev} after ${document.rev}` };
      }
      const patched = patch(document.state, message.ops);
      if ("reason" in patched) return { outcome: "refused", reason: patched.reason };
      const cursor = { session: message.cause.session, s: message.cause.s };
      return {
        outcome: "applied",
        document: {
          state: patched.state,
          rev: message.rev,
          epoch: message.epoch,
          seq,
          by: message.by,
          cursor,
        },
      };
    }
  }
}

type Ops = Parameters<typeof applyPatch>[1];

/**
 * Applies ops all or nothing: in place when they are few and simple, on a copy as soon as one could fail midway.
 * In place matters: a copy of a 1,000-member guild costs a hundred times the patch.
 */
function patch(state: unknown, ops: Ops): { state: unknown } | { reason: string } {
  // A move takes away before it puts down, and only the second may fail.
  const single = ops.length === 1 && ops[0]!.op !== "move";
  const target = single ? state : structuredCloneIfRisky(state, ops);
  try {
    return { state: applyPatch(target as object, ops, true, true, true).newDocument };
  } catch (error) {
    return { reason: `patch failed: ${messageOf(error).split("\n")[0]}` };
  }
}

function structuredCloneIfRisky(state: unknown, ops: Ops): unknown {
  const written = new Set<string>();
  return ops.every((op) => canApply(state, op, written)) ? state : structuredClone(state);
}

/** Whether a replace or object-member add surely succeeds here: nothing on its way was written by an op before it. */
function canApply(state: unknown, op: Ops[number], written: Set<string>): boolean {
  if (op.op !== "replace" && op.op !== "add") return false;
  const keys = op.path.split("/");
  if (keys.length < 2) return false;
  let node: unknown = state;
  let path = "";
  for (let index = 1; index < keys.length - 1; index += 1) {
    if (node === null || typeof node !== "object") return false;
    path += `/${keys[index]}`;
    if (written.has(path)) return false;
    node = (node as Record<string, unknown>)[unescapePointer(keys[index]!)];
  }
  written.add(op.path);
  if (node === null || typeof node !== "object" || Array.isArray(node)) return false;
  return op.op === "add" || Object.hasOwn(node, unescapePointer(keys.at(-1)!));
}

function unescapePointer(segment: string): string {
  return segment.includes("~") ? segment.replaceAll("~1", "/").replaceAll("~0", "~") : segment;
}
