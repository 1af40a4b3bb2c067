/**
 * The identify budget's arithmetic: what IDENTIFYs cost, whose count wins, and, against models of a network and of
 * Discord, that turns of a bucket never come too close and that a day is never overspent.
 */
import test from "ava";
import fc from "fast-check";
import {
  bucketOf,
  giveBack,
  type IdentifyDailyEntry,
  planIdentifies,
  reconcile,
  reserveOf,
  type SessionStartLimit,
  spend,
  spendable,
  TurnClock,
} from "../../src/core/identify.js";
import { limits } from "../../src/core/limits.js";

const {
  identifyIntervalMs: intervalMs,
  identifyMarginMs: marginMs,
  identifyUseWithinMs: useWithinMs,
} = limits;
const turnMs = intervalMs + marginMs;

test("a plan: affordable above the reserve, one turn for each max_concurrency of them", (t) => {
  const limit = { total: 1_000, remaining: 1_000, maxConcurrency: 16 };
  t.deepEqual(planIdentifies(0, limit), { affordable: true, durationMs: 0 });
  t.deepEqual(planIdentifies(16, limit), { affordable: true, durationMs: turnMs });
  t.deepEqual(planIdentifies(17, limit), { affordable: true, durationMs: 2 * turnMs });
  t.deepEqual(planIdentifies(990, limit), { affordable: true, durationMs: 62 * turnMs });
  t.false(planIdentifies(991, limit).affordable, "ten are kept back");
  t.false(planIdentifies(1, { ...limit, remaining: 0 }).affordable);
});

test("a small total has no reserve, Discord's has one percent", (t) => {
  t.deepEqual([0, 10, 99, 100, 1_000, 2_000].map(reserveOf), [0, 0, 0, 1, 10, 20]);
  t.is(spendable({ total: 1_000, remaining: 5 }), 0);
});

const answer: SessionStartLimit = {
  total: 1_000,
  remaining: 900,
  resetAfterMs: 3_600_000,
  resetAt: 1_800_000_000_000,
  maxConcurrency: 1,
};
const entry: IdentifyDailyEntry = {
  total: 1_000,
  remaining: 900,
  maxConcurrency: 1,
  resetAt: answer.resetAt,
  generation: 7,
  by: "worker-1",
  at: 1,
};

test("within a day the lower count wins, a later day starts over, an earlier answer is old", (t) => {
  t.is(reconcile(entry, { ...answer, remaining: 950 }, "w", 2), entry, "theirs lags behind what is underway");
  t.like(reconcile(entry, { ...answer, remaining: 850 }, "w", 2), { remaining: 850, generation: 8 });
  // The same day, though one answer took longer: the reset it tells is a moment off.
  t.is(reconcile(entry, { ...answer, remaining: 999, resetAt: answer.resetAt + 1_500 }, "w", 2), entry);
  const tomorrow = { ...answer, remaining: 1_000, resetAt: answer.resetAt + 86_400_000 };
  t.like(reconcile({ ...entry, remaining: 3 }, tomorrow, "w", 2), { remaining: 1_000, generation: 8 });
  const yesterday = { ...answer, remaining: 1, resetAt: answer.resetAt - 86_400_000 };
  t.is(reconcile(entry, yesterday, "w", 2), entry);
  t.like(reconcile(undefined, answer, "w", 2), { remaining: 900, total: 1_000 });
});

test("a raised total or max_concurrency is taken over, the lower count stays", (t) => {
  const raised = { ...answer, total: 2_000, remaining: 1_900, maxConcurrency: 16 };
  t.like(reconcile(entry, raised, "w", 2), {
    total: 2_000,
    maxConcurrency: 16,
    remaining: 900,
    generation: 7,
  });
});

test("a count is given back once Discord has not set it anew since", (t) => {
  const spent = spend(entry, "w", 2)!;
  t.is(spent.remaining, 899);
  t.is(giveBack(spent, spent.generation, "w", 3)?.remaining, 900);
  const lowered = reconcile(spent, { ...answer, remaining: 850 }, "w", 3);
  t.is(giveBack(lowered, spent.generation, "w", 4), undefined, "the 850 never contained it");
  // As low as our own count though one has not left: somebody else has spent it.
  const equal = reconcile(spent, { ...answer, remaining: 899 }, "w", 3);
  t.is(giveBack(equal, spent.generation, "w", 4), undefined);
  t.is(spend({ ...entry, remaining: 10 }, "w", 2), undefined, "the reserve is not spent");
});

test("shards are in the bucket of their id modulo max_concurrency", (t) => {
  t.deepEqual(
    [0, 1, 15, 16, 33].map((shard) => bucketOf(shard, 16)),
    [0, 1, 15, 0, 1],
  );
});

/** mulberry32: the model's dice, from one number that a failure prints. */
function dice(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let x = Math.imul(state ^ (state >>> 15), 1 | state);
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
    return (((x ^ (x >>> 14)) >>> 0) / 4_294_967_296) * below;
  };
}

interface Story {
  /** When IDENTIFYs of the bucket arrived at Discord. */
  arrivals: number[];
  turns: number;
}

/**
 * One bucket and some workers that all want it all the time: requests and answers of the list-server take their time,
 * news of it too, some workers die with a turn in hand, each has a clock of its own, and what is sent to Discord is on
 * its way for up to as long as the margin allows.
 */
function raceForTurns(seed: number, workerCount: number, isPatient = true): Story {
  const roll = dice(seed);
  const events: { at: number; run: () => void }[] = [];
  let now = 0;
  const later = (ms: number, run: () => void): void => void events.push({ at: now + ms, run });
  let revision = roll(2) < 1 ? 0 : 5;
  const story: Story = { arrivals: [], turns: 0 };
  const watchers: ((revision: number) => void)[] = [];

  const startWorker = (): void => {
    const offset = roll(2_000_000_000) - 1_000_000_000;
    const clock = new TurnClock(isPatient ? turnMs : intervalMs, now + offset);
    const listed = { revision };
    let lastNewsAt = now;
    watchers.push((changed) => {
      // News comes late, and in order.
      lastNewsAt = Math.max(lastNewsAt, now + roll(300));
      later(lastNewsAt - now, () => {
        listed.revision = changed;
        clock.saw(0, changed, now + offset);
      });
    });
    const tryNow = (): void => {
      const { freeAtMs, revision: from } = clock.next(0, listed.revision);
      const waitMs = freeAtMs - (now + offset);
      if (waitMs > 0) {
        later(waitMs, tryNow);
        return;
      }
      // Counting the IDENTIFY comes first and takes its time, too.
      const countingMs = roll(200);
      const began = now + countingMs + offset;
      later(countingMs + roll(roll(400)), () => {
        const isOurs = from === revision;
        if (isOurs) {
          revision += 1;
          story.turns += 1;
          for (const tell of watchers) tell(revision);
        }
        const current = revision;
        if (isOurs && roll(10) < 1) {
          startWorker(); // Dead with its turn; another takes its place.
          return;
        }
        later(roll(roll(400)), () => {
          clock.saw(0, current, now + offset);
          if (isOurs && (!isPatient || TurnClock.isUsable(began, now + offset))) {
            later(roll(marginMs - useWithinMs), () => story.arrivals.push(now));
          }
          tryNow();
        });
      });
    };
    later(roll(8_000), tryNow);
  };

  for (let n = 0; n < workerCount; n += 1) startWorker();
  while (events.length > 0 && now < 120_000) {
    events.sort((a, b) => a.at - b.at);
    const next = events.shift()!;
    now = next.at;
    next.run();
  }
  return story;
}

function shortestGap(arrivals: number[]): number {
  const sorted = [...arrivals].sort((a, b) => a - b);
  return Math.min(...sorted.slice(1).map((at, i) => at - sorted[i]!));
}

test("whatever workers race and die, Discord sees a bucket's IDENTIFYs at least its interval apart", (t) => {
  let sent = 0;
  fc.assert(
    fc.property(fc.integer(), fc.integer({ min: 1, max: 5 }), (seed, workers) => {
      const { arrivals } = raceForTurns(seed, workers);
      sent += arrivals.length;
      return shortestGap(arrivals) >= intervalMs;
    }),
    { numRuns: 400 },
  );
  t.log(`${sent} IDENTIFYs`);
  t.true(sent > 2_000, "and they do come");
  // The model can tell: without margin and without using a turn at once it finds a violation.
  const hasty = Array.from({ length: 50 }, (_, seed) => raceForTurns(seed, 3, false).arrivals);
  t.true(hasty.some((arrivals) => shortestGap(arrivals) < intervalMs));
});

type Step = "count" | "send" | "raceLost" | "ask" | "answer" | "elsewhere" | "nextDay";

/**
 * Discord's own count over days, our workers' entry, somebody else with the same token. Answers are of the moment they
 * were asked. Returns the most that any day was overspent beyond what Discord could not know when an answer of it set our
 * count: what was underway then, or had left since it was asked.
 */
function spendDays(steps: readonly Step[], total: number): number {
  let day = 0;
  let remaining = total;
  let unknowable = 0;
  let sentToday = 0;
  let worst = 0;
  const underway: number[] = [];
  const asked: { answer: SessionStartLimit; sentBefore: number; day: number }[] = [];
  const ask = (): void => {
    const resetAt = (day + 1) * 86_400_000;
    const answer = { total, remaining, resetAfterMs: 1, resetAt, maxConcurrency: 1 };
    asked.push({ answer, sentBefore: sentToday, day });
  };
  let current = reconcile(undefined, { ...answer, total, remaining, resetAt: 86_400_000 }, "w", 0);
  for (const kind of steps) {
    if (kind === "count") {
      const spent = spend(current, "w", 0);
      if (spent === undefined) continue;
      current = spent;
      underway.push(spent.generation);
    } else if (kind === "send" && underway.length > 0) {
      underway.shift();
      remaining -= 1;
      sentToday += 1;
    } else if (kind === "raceLost" && underway.length > 0) {
      current = giveBack(current, underway.shift()!, "w", 0) ?? current;
    } else if (kind === "ask") ask();
    else if (kind === "answer" && asked.length > 0) {
      const given = asked.shift()!;
      const { generation } = current;
      current = reconcile(current, given.answer, "w", 0);
      if (current.generation !== generation && given.day === day) {
        unknowable += underway.length + sentToday - given.sentBefore;
      }
    } else if (kind === "elsewhere" && remaining > 0) {
      remaining -= 1;
      // What others spend is unknown until the next answer, which the reserve is for; here it comes at once.
      asked.length = 0;
      ask();
      current = reconcile(current, asked.shift()!.answer, "w", 0);
      unknowable += underway.length;
    } else if (kind === "nextDay") {
      day += 1;
      remaining = total;
      sentToday = 0;
      unknowable = underway.length;
    }
    if (current.remaining < 0 || current.remaining > current.total) return Number.POSITIVE_INFINITY;
    worst = Math.max(worst, -remaining - unknowable);
  }
  return worst;
}

const anyStep = fc.oneof(
  { weight: 6, arbitrary: fc.constant<Step>("count") },
  { weight: 5, arbitrary: fc.constant<Step>("send") },
  { weight: 2, arbitrary: fc.constantFrom<Step>("raceLost", "ask", "answer") },
  { weight: 1, arbitrary: fc.constantFrom<Step>("elsewhere", "nextDay") },
);

test("whatever is spent, given back and answered late, no day is overspent by more than nobody could know", (t) => {
  fc.assert(
    fc.property(fc.array(anyStep, { maxLength: 300 }), fc.integer({ min: 1, max: 20 }), (steps, total) => {
      return spendDays(steps, total) === 0;
    }),
    { numRuns: 2_000 },
  );
  t.pass();
});
