/** Specs of opening a stored state: initial, same version, migrated, refused. */
import test from "ava";
import { defineBot } from "../../src/core/bot.js";
import { openState } from "../../src/worker/state.js";

const bot = defineBot<{ points: number }>({
  name: "spec",
  intents: 0,
  state: {
    version: 2,
    initial: () => ({ points: 0 }),
    migrate: (state) => ({ points: (state as { score: number }).score }),
  },
});

test("a guild that the log does not know starts from initial, whole in its first event", (t) => {
  const opened = openState(bot, "1", undefined);
  t.deepEqual(opened.state, { $version: 2, points: 0 });
  t.true(opened.changed);
});

test("a state of this version is taken as it is", (t) => {
  const opened = openState(bot, "1", { $version: 2, points: 7 });
  t.deepEqual(opened.state, { $version: 2, points: 7 });
  t.false(opened.changed);
});

test("an older state is migrated, whole in its next event", (t) => {
  const opened = openState(bot, "1", { $version: 1, score: 9 });
  t.deepEqual(opened.state, { $version: 2, points: 9 });
  t.true(opened.changed);
});

test("a newer state is refused by name", (t) => {
  t.throws(() => openState(bot, "1", { $version: 3, points: 1 }), {
    code: "STATE_VERSION",
    message: /version 3/,
  });
});
