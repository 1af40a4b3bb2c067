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
