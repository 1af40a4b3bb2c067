/** Specs of saying it loudly, but not too often: the clock is the test's. */
import test from "ava";
import type { Logger } from "../../src/core/bot.js";
import { limits } from "../../src/core/limits.js";
import { Alarm } from "../../src/worker/alarm.js";

interface Said {
  level: string;
  event: string;
  forMs: number;
  count: number;
}

function story(): { said: Said[]; at(now: number, isWrong: boolean): void } {
  const said: Said[] = [];
  const say = (level: string) => (fields: object) => void said.push({ level, ...fields } as Said);
  const log: Logger = { debug: say("debug"), info: say("info"), warn: say("warn"), error: say("error") };
  const alarm = new Alarm(log, { began: "gone", over: "back", beganText: "GONE", overText: "back" });
  return { said, at: (now, isWrong) => alarm.set(isWrong, now, () => ({ count: now })) };
}

test("said once when it begins, again at a bounded interval with fresh counts, once when it is over", (t) => {
  const { said, at } = story();
  at(0, false);
  t.deepEqual(said, []);
  const overAt = limits.alarmRepeatMs * 2 + 500;
  for (let now = 100; now < overAt; now += 100) at(now, true);
  for (let now = overAt; now <= overAt + limits.alarmCalmMs * 3; now += 100) at(now, false);
  t.deepEqual(said, [
    { level: "error", event: "gone", forMs: 0, count: 100 },
    { level: "error", event: "gone", forMs: limits.alarmRepeatMs, count: limits.alarmRepeatMs + 100 },
    { level: "error", event: "gone", forMs: limits.alarmRepeatMs * 2, count: limits.alarmRepeatMs * 2 + 100 },
    { level: "warn", event: "back", forMs: overAt - 100, count: overAt + limits.alarmCalmMs },
  ]);
  at(overAt * 2, true);
  t.is(said.length, 5, "the next time is another trouble");
});

test("what comes and goes is one trouble", (t) => {
  const { said, at } = story();
  for (let now = 100; now < limits.alarmRepeatMs; now += limits.alarmCalmMs / 2) {
    at(now, true);
    at(now + 10, false);
  }
  t.is(said.length, 1);
});
