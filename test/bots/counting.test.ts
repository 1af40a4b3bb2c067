import test from "ava";
import counting from "../../src/bots/counting.js";
import { command, dispatch } from "./run.js";

test("every dispatch counts by its name, messages and interactions by their ids as well", async (t) => {
  let state = counting.state.initial("1");
  for (const [name, data] of [
    ["MESSAGE_CREATE", { id: "999999999000000007" }],
    ["MESSAGE_CREATE", { id: "999999999000000008" }],
    ["INTERACTION_CREATE", { id: "999999999999999999" }],
    ["TYPING_START", {}],
  ] as const) {
    state = (await dispatch(counting, state, name, data)).state;
  }
  t.deepEqual(state, {
    counts: { MESSAGE_CREATE: 2, INTERACTION_CREATE: 1, TYPING_START: 1 },
    idSum: 7 + 8 + 999_999,
  });
});

test("GUILD_CREATE and GUILD_DELETE do not count", async (t) => {
  for (const name of ["GUILD_CREATE", "GUILD_DELETE"]) {
    t.false((await dispatch(counting, counting.state.initial("1"), name, { id: "1" })).changed);
  }
});

test("the sum of ids stays below a billion", async (t) => {
  const state = { counts: {}, idSum: 999_999_999 };
  const ran = await dispatch(counting, state, "MESSAGE_CREATE", { id: "100000000000000002" });
  t.is(ran.state.idSum, 1);
});

test("/count answers with the total", async (t) => {
  const ran = await command(counting, { counts: { MESSAGE_CREATE: 2, TYPING_START: 1 }, idSum: 0 }, "count");
  t.deepEqual(ran.replies, ["3 events"]);
  t.false(ran.changed);
});
