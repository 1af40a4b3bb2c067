/** Specs of dirty and clean: given appends and watermarks, which guilds are dirty. */
import test from "ava";
import { SavedTracker } from "../../src/worker/saved.js";

test("a guild is dirty from its append until the watermark has passed it", (t) => {
  const saved = new SavedTracker();
  saved.appended("a", 10);
  t.true(saved.isDirty("a"));
  saved.advance(9);
  t.true(saved.isDirty("a"));
  saved.advance(10);
  t.false(saved.isDirty("a"));
  t.is(saved.dirtyGuilds, 0);
});

test("a later append keeps it dirty when the earlier one is saved", (t) => {
  const saved = new SavedTracker();
  saved.appended("a", 10);
  saved.appended("b", 11);
  saved.appended("a", 12);
  saved.advance(11);
  t.true(saved.isDirty("a"));
  t.false(saved.isDirty("b"));
});

test("an append that was saved before its answer came is clean", (t) => {
  const saved = new SavedTracker();
  saved.advance(20);
  saved.appended("a", 15);
  t.false(saved.isDirty("a"));
});

test("a watermark that falls makes later appends wait for it again", (t) => {
  const saved = new SavedTracker();
  saved.advance(20);
  saved.advance(5);
  saved.appended("a", 12);
  t.true(saved.isDirty("a"));
  saved.advance(12);
  t.false(saved.isDirty("a"));
});

test("a hundred thousand appends leave nothing behind", (t) => {
  const saved = new SavedTracker();
  for (let seq = 1; seq <= 100_000; seq += 1) {
    saved.appended(String(seq % 100), seq);
    if (seq % 50 === 0) saved.advance(seq);
  }
  t.is(saved.dirtyGuilds, 0);
});

test("with nothing saved for a long time it remembers guilds, not events", (t) => {
  const saved = new SavedTracker();
  for (let seq = 1; seq <= 1_000_000; seq += 1) saved.appended(String(seq % 1_000), seq);
  t.is(saved.dirtyGuilds, 1_000);
  t.true(saved.remembered < 5_000, `${saved.remembered}`);
  saved.advance(999_500);
  t.is(saved.dirtyGuilds, 500);
  saved.advance(1_000_000);
  t.is(saved.dirtyGuilds, 0);
  t.is(saved.remembered, 0);
});

test("while the stream is being looked at nothing becomes clean; if it is as it was, all does at once", (t) => {
  const saved = new SavedTracker();
  saved.appended("a", 10);
  saved.suspend();
  saved.advance(20);
  t.true(saved.isDirty("a"));
  saved.appended("b", 15);
  t.true(saved.isDirty("b"), "15 may be of another stream than the 20 that are saved");
  saved.resume();
  t.is(saved.dirtyGuilds, 0);
});

test("a rewound stream: what it lost is not waited for, what was put back is", (t) => {
  const saved = new SavedTracker();
  saved.advance(940);
  saved.appended("kept", 945);
  saved.appended("lost", 1_000);
  saved.suspend();
  saved.appended("put back meanwhile", 951);
  saved.advance(0);
  saved.resume(950);
  t.false(saved.isDirty("lost"), "it is put back, and dirty then");
  saved.appended("lost", 952);
  t.true(saved.isDirty("lost"));
  saved.advance(951);
  t.false(saved.isDirty("kept"));
  t.false(saved.isDirty("put back meanwhile"));
  t.true(saved.isDirty("lost"));
  saved.advance(952);
  t.is(saved.dirtyGuilds, 0);
});
