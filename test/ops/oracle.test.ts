/** The check of a run: it must see every loss, every double, and a swap of one for the other. */
import test from "ava";
import { judge } from "../../src/ops/start/oracle.js";

const guild = "100000000000000001";
const expected = { counts: { MESSAGE_CREATE: 3, GUILD_CREATE: 1 }, idSum: 30, unconfirmed: 0 };
const none = new Map();

function counted(counts: Record<string, number>, idSum: number) {
  return new Map([[guild, { counts, idSum }]]);
}

test("equal is equal, and guild comings and goings do not count", (t) => {
  const verdict = judge({ [guild]: expected }, none, counted({ MESSAGE_CREATE: 3 }, 30));
  t.like(verdict, { dispatches: 3, handled: 3, lost: 0, duplicated: 0, differences: [] });
});

test("fewer is lost, also when the guild has no state at all", (t) => {
  t.like(judge({ [guild]: expected }, none, counted({ MESSAGE_CREATE: 2 }, 20)), { lost: 1, duplicated: 0 });
  t.like(judge({ [guild]: expected }, none, none), { lost: 3, duplicated: 0 });
});

test("more is handled twice, also where nothing was sent", (t) => {
  t.like(judge({ [guild]: expected }, none, counted({ MESSAGE_CREATE: 4 }, 40)), { lost: 0, duplicated: 1 });
  t.like(judge({}, none, counted({ TYPING_START: 2 }, 0)), { lost: 0, duplicated: 2 });
});

test("one lost and one twice is seen by the ids", (t) => {
  const verdict = judge({ [guild]: expected }, none, counted({ MESSAGE_CREATE: 3 }, 31));
  t.like(verdict, { lost: 1, duplicated: 1 });
  t.is(verdict.differences.length, 1);
});

test("what earlier runs counted is taken off, also across the modulus", (t) => {
  const before = counted({ MESSAGE_CREATE: 10 }, 999_999_990);
  const verdict = judge({ [guild]: expected }, before, counted({ MESSAGE_CREATE: 13 }, 20));
  t.like(verdict, { handled: 3, lost: 0, duplicated: 0 });
});

test("direct messages have no guild to be counted in", (t) => {
  t.like(judge({ dm: expected }, none, none), { dispatches: 0, lost: 0 });
});

test("what was on its way when its session was lost may be missing, and no more", (t) => {
  const ledger = { [guild]: { ...expected, unconfirmed: 1 } };
  t.like(judge(ledger, none, counted({ MESSAGE_CREATE: 2 }, 20)), { lost: 0, unconfirmed: 1 });
  t.like(judge(ledger, none, counted({ MESSAGE_CREATE: 1 }, 10)), { lost: 1 });
});
