import test from "ava";
import fc from "fast-check";
import fastJsonPatch, { type Operation } from "fast-json-patch";
import { emptyDocument, fold, type GuildDocument } from "../../src/core/document.js";
import type { LogMessage } from "../../src/core/event.js";

const at = 1;
const by = "w";

function event(rev: number, ops: unknown[], epoch = 1): LogMessage {
  const cause = { shard: 0, session: "abc", s: rev * 10, t: "X" };
  return { kind: "event", v: 1, rev, epoch, by, at, ops: ops as Operation[], cause };
}

function snapshot(rev: number, state: unknown, epoch = 1): LogMessage {
  return {
    kind: "snapshot",
    v: 1,
    rev,
    epoch,
    by,
    at,
    state,
    cursor: { session: "abc", s: rev * 10 },
    head: 0,
  };
}

function foldAll(messages: LogMessage[], document = emptyDocument()): GuildDocument {
  let seq = document.seq;
  for (const message of messages) {
    seq += 1;
    const result = fold(document, structuredClone(message), seq);
    if (result.outcome !== "applied") throw new Error(JSON.stringify(result));
    document = result.document;
  }
  return document;
}

const first = event(1, [{ op: "replace", path: "", value: { count: 0, list: [1, 2], deep: { a: {} } } }]);

const safeText = fc.string({ maxLength: 5 }).filter((key) => !/proto|constructor/.test(key));
const state = fc
  .dictionary(safeText, fc.jsonValue({ maxDepth: 3 }), { maxKeys: 6 })
  .map((value) => {
    return JSON.parse(JSON.stringify(value)) as Record<string, unknown>;
  })
  .filter((value) => !JSON.stringify(value).includes("__proto__"));

test("I3: folding the ops between any states gives those states, and so does a snapshot", (t) => {
  fc.assert(
    fc.property(fc.array(state, { minLength: 1, maxLength: 8 }), (states) => {
      let before: Record<string, unknown> = {};
      const messages: LogMessage[] = [event(1, [{ op: "add", path: "", value: {} }])];
      for (const after of states) {
        messages.push(event(messages.length + 1, fastJsonPatch.compare(before, after)));
        before = after;
      }
      const folded = foldAll(messages);
      t.deepEqual(folded.state, states.at(-1));
      t.is(folded.rev, messages.length);
      const half = Math.ceil(messages.length / 2);
      const middle = foldAll(messages.slice(0, half));
      const jumped = foldAll([snapshot(half, structuredClone(middle.state)), ...messages.slice(half)]);
      t.deepEqual(jumped.state, folded.state);
      t.is(jumped.rev, folded.rev);
      t.deepEqual(jumped.cursor, folded.cursor);
    }),
    { numRuns: 300, verbose: true },
  );
});

const path = fc
  .array(fc.constantFrom("count", "list", "deep", "a", "0", "1", "7", "-", "x", ""), { maxLength: 3 })
  .map((keys) => keys.map((key) => `/${key}`).join(""));
const anyOp = fc.oneof(
  fc.record({ op: fc.constantFrom("add", "replace", "test"), path, value: fc.jsonValue({ maxDepth: 1 }) }),
  fc.record({ op: fc.constant("remove"), path }),
  fc.record({ op: fc.constantFrom("move", "copy"), path, from: path }),
);

test("any ops: applied exactly as fast-json-patch does on a copy, or refused and nothing has changed", (t) => {
  let refused = 0;
  let applied = 0;
  fc.assert(
    fc.property(fc.array(anyOp, { minLength: 1, maxLength: 4 }), (ops) => {
      const document = foldAll([first]);
      const before = structuredClone(document);
      let expected: unknown;
      try {
        const copy = structuredClone(document.state);
        expected = fastJsonPatch.applyPatch(
          copy,
          structuredClone(ops) as Operation[],
          true,
          true,
          true,
        ).newDocument;
      } catch {
        expected = undefined;
      }
      const result = fold(document, event(2, structuredClone(ops)), 2);
      if (result.outcome === "applied") {
        applied += 1;
        t.deepEqual(result.document.state, expected);
      } else {
        refused += 1;
        t.is(result.outcome, "refused");
        t.is(expected, undefined);
        t.deepEqual(document, before);
      }
    }),
    { numRuns: 3_000, verbose: true },
  );
  t.true(refused > 100 && applied > 100, `${refused} refused, ${applied} applied`);
});

test("a move that cannot put down has not taken away", (t) => {
  const document = foldAll([first]);
  const before = structuredClone(document);
  const result = fold(document, event(2, [{ op: "move", from: "/list", path: "/list/0" }]), 2);
  t.is(result.outcome, "refused");
  t.deepEqual(document, before);
});

test("the revision gates every apply", (t) => {
  const document = foldAll([first]);
  const increment = event(2, [{ op: "add", path: "/list/-", value: 3 }]);
  t.is(fold(document, increment, 1).outcome, "old");
  const result = fold(document, increment, 2);
  t.is(result.outcome, "applied");
  if (result.outcome !== "applied") return;
  t.deepEqual(result.document.cursor, { session: "abc", s: 20 });
  t.is(fold(result.document, increment, 2).outcome, "old");
  t.like(fold(result.document, increment, 3), { outcome: "refused", reason: "revision 2 again after 2" });
  t.deepEqual((result.document.state as { list: number[] }).list, [1, 2, 3]);
});

test("I2: a gap, a falling epoch and an older snapshot are refused", (t) => {
  const document = foldAll([first, event(2, [], 3)]);
  t.like(fold(document, event(4, [], 3), 3), { outcome: "refused", reason: "gap: revision 4 after 2" });
  t.like(fold(document, event(3, [], 2), 3), { outcome: "refused", reason: "epoch fell from 3 to 2" });
  t.is(fold(document, snapshot(1, {}, 3), 3).outcome, "refused");
  t.is(fold(document, snapshot(2, {}, 2), 3).outcome, "refused");
  t.is(fold(document, snapshot(2, {}, 3), 3).outcome, "applied");
  t.is(fold(document, snapshot(9, {}, 3), 3).outcome, "applied");
});

test("a tombstone takes the state and keeps the place", (t) => {
  const gone = foldAll([first, { kind: "tombstone", v: 1, rev: 2, epoch: 2, by, at }]);
  t.like(gone, { state: undefined, rev: 2, epoch: 2, seq: 2 });
  t.is(fold(gone, first, 2).outcome, "old");
  t.is(fold(gone, event(2, [], 2), 3).outcome, "refused");
});
