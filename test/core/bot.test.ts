import test from "ava";
import { defineBot, validateBot } from "../../src/core/bot.js";

const valid = { name: "b", intents: 1, state: { version: 1, initial: () => ({}) } };

test("a valid bot is given back as it is", (t) => {
  t.is(defineBot(valid), valid);
});

test("what is wrong with a bot is named", (t) => {
  const command = { definition: { description: "x" }, run() {} };
  for (const [bot, message] of [
    [undefined, /object/],
    [null, /object/],
    ["bot", /object/],
    [{}, /name/],
    [{ ...valid, name: "" }, /name/],
    [{ ...valid, intents: -1 }, /intents/],
    [{ ...valid, intents: 1.5 }, /intents/],
    [{ ...valid, state: undefined }, /state/],
    [{ ...valid, state: { version: 0, initial() {} } }, /version/],
    [{ ...valid, state: { version: 1 } }, /initial/],
    [{ ...valid, state: { ...valid.state, migrate: 1 } }, /migrate/],
    [{ ...valid, on: { MESSAGE_CREATE: 1 } }, /on\.MESSAGE_CREATE/],
    [{ ...valid, onAny: 1 }, /onAny/],
    [{ ...valid, onDirect: 1 }, /onDirect/],
    [{ ...valid, commands: { "two words": command } }, /two words/],
    [{ ...valid, commands: { a: { ...command, run: 1 } } }, /commands\.a\.run/],
    [{ ...valid, commands: { a: { run() {} } } }, /commands\.a\.definition/],
    [{ ...valid, commands: { a: null } }, /commands\.a/],
  ] as const) {
    const error = t.throws(() => validateBot(bot), { message });
    t.like(error, { code: "BOT_INVALID" }, error?.stack);
  }
});
