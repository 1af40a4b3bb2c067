/** Specs of the verdict on an append whose outcome is unknown: given a claim, when the log's last message is …, then … */
import test from "ava";
import { type AppendClaim, judgeAppend, type LastMessage } from "../../src/core/judge.js";

const claim: AppendClaim = { messageId: "w.1:7", rev: 5, epoch: 2, by: "w.1", expectedSeq: 100 };
const base: LastMessage = { seq: 100, messageId: "w.1:6", kind: "event", rev: 4, epoch: 2, by: "w.1" };

test("mine is there: stored, at its sequence", (t) => {
  const last = { ...base, seq: 140, messageId: "w.1:7", rev: 5 };
  t.deepEqual(judgeAppend(claim, last), { verdict: "stored", seq: 140 });
});

test("what I built on is still the last: send it again", (t) => {
  t.deepEqual(judgeAppend(claim, base), { verdict: "retry", expectedSeq: 100 });
});

test("a first append finds an empty subject: send it again", (t) => {
  const first = { ...claim, rev: 1, expectedSeq: 0 };
  t.deepEqual(judgeAppend(first, undefined), { verdict: "retry", expectedSeq: 0 });
});

test("a snapshot of the revision I built on: adopt its sequence", (t) => {
  const last: LastMessage = { ...base, seq: 130, kind: "snapshot", messageId: "db:1", by: "db" };
  t.deepEqual(judgeAppend(claim, last), { verdict: "retry", expectedSeq: 130 });
});

test("a snapshot of my own revision: it was stored, then compacted", (t) => {
  const last: LastMessage = { ...base, seq: 141, kind: "snapshot", messageId: "db:2", rev: 5, by: "db" };
  t.deepEqual(judgeAppend(claim, last), { verdict: "stored", seq: 141 });
});

test("a higher epoch: fenced", (t) => {
  const last = { ...base, seq: 120, messageId: "x.1:1", rev: 5, epoch: 3, by: "x.1" };
  t.deepEqual(judgeAppend(claim, last), { verdict: "fenced", by: "x.1", epoch: 3 });
});

test("another writer claimed the same epoch first: fenced", (t) => {
  const last = { ...base, seq: 120, messageId: "x.1:1", rev: 5, by: "x.1" };
  t.deepEqual(judgeAppend(claim, last), { verdict: "fenced", by: "x.1", epoch: 2 });
});

test("a zombie's last valid write, of a lower epoch: overtaken", (t) => {
  const last = { ...base, seq: 120, messageId: "z.1:9", rev: 5, epoch: 1, by: "z.1" };
  t.deepEqual(judgeAppend(claim, last), { verdict: "overtaken", by: "z.1", seq: 120 });
});

test("the subject ends before what was acknowledged: lost", (t) => {
  t.deepEqual(judgeAppend(claim, { ...base, seq: 90, rev: 3 }), { verdict: "lost", lastSeq: 90 });
  t.deepEqual(judgeAppend(claim, undefined), { verdict: "lost", lastSeq: 0 });
});
