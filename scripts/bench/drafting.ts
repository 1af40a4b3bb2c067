/**
 * What it costs to get the ops of one small mutation, by the size of the state: the measure by which drafts were
 * chosen. Candidates: fast-json-patch's compare (of a clone) and observe, and Mutative by way of `runDraft`, which
 * also checks that the ops are JSON.
 */
import fastJsonPatch from "fast-json-patch";
import { canonicalJson } from "../../src/core/canonical.js";
import { runDraft } from "../../src/core/draft.js";
import type { BenchContext } from "./stage.js";

const { applyPatch, compare, generate, observe, unobserve } = fastJsonPatch;

export const name = "drafting";
export const description = "microseconds to get the ops of one small mutation, by members in the state";

interface State {
  settings: { prefix: string; levels: boolean };
  members: Record<string, { xp: number; level: number; name: string; roles: string[] }>;
  messages: number;
}

function makeState(members: number): State {
  const entries = Array.from({ length: members }, (_, index) => [
    String(100_000_000_000_000_000n + BigInt(index)),
    { xp: index, level: 1, name: `member ${index}`, roles: ["1", "2"] },
  ]);
  return { settings: { prefix: "!", levels: true }, members: Object.fromEntries(entries), messages: 0 };
}

/** A message of a member: a counter, the member's points, now and then a role. */
function mutate(state: State, ids: string[], step: number): void {
  const member = state.members[ids[step % ids.length]!]!;
  state.messages += 1;
  member.xp += 15;
  if (step % 10 === 0) member.roles.push(String(step));
  if (step % 10 === 5 && member.roles.length > 2) member.roles.pop();
}

/** Each takes a state through a number of steps and says how many ops that made. */
const candidates: Record<string, (members: number, steps: number) => number> = {
  compare(members, steps) {
    let state = makeState(members);
    const ids = Object.keys(state.members);
    let ops = 0;
    for (let step = 0; step < steps; step += 1) {
      const next = structuredClone(state);
      mutate(next, ids, step);
      ops += compare(state, next).length;
      state = next;
    }
    return ops;
  },
  observe(members, steps) {
    const state = makeState(members);
    const ids = Object.keys(state.members);
    const observer = observe<State>(state);
    let ops = 0;
    for (let step = 0; step < steps; step += 1) {
      mutate(state, ids, step);
      ops += generate(observer).length;
    }
    unobserve(state, observer);
    return ops;
  },
  mutative(members, steps) {
    let state = makeState(members);
    const ids = Object.keys(state.members);
    let ops = 0;
    for (let step = 0; step < steps; step += 1) {
      const drafted = runDraft(state, (draft) => mutate(draft, ids, step));
      ops += drafted.ops.length;
      state = drafted.state;
    }
    return ops;
  },
};

/** Best of five rounds, in microseconds a mutation. */
function measure(
  candidate: (members: number, steps: number) => number,
  members: number,
  steps: number,
): number {
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < 5; round += 1) {
    const start = performance.now();
    candidate(members, steps);
    best = Math.min(best, performance.now() - start);
  }
  return Math.round((best / steps) * 100_000) / 100;
}

/** Steps after which the ops, applied by fast-json-patch, gave the next state exactly. */
function countEqual(members: number, steps: number): number {
  let state = makeState(members);
  const ids = Object.keys(state.members);
  let equal = 0;
  for (let step = 0; step < steps; step += 1) {
    const { state: next, ops } = runDraft(state, (draft) => mutate(draft, ids, step));
    const applied = applyPatch(structuredClone(state), ops, true).newDocument;
    if (canonicalJson(applied) === canonicalJson(next)) equal += 1;
    state = next;
  }
  return equal;
}

export async function run({ quick, log }: BenchContext): Promise<object> {
  const microseconds: Record<string, Record<string, number>> = {};
  for (const members of [10, 100, 1_000]) {
    const steps = Math.max(20, Math.round((quick ? 1_000 : 10_000) / Math.sqrt(members)));
    for (const [candidate, body] of Object.entries(candidates)) {
      microseconds[candidate] ??= {};
      microseconds[candidate][`${members}Members`] = measure(body, members, steps);
    }
    const row = Object.entries(microseconds).map(
      ([candidate, by]) => `${candidate} ${by[`${members}Members`]} us`,
    );
    log(`${members} members: ${row.join(", ")}`);
  }
  const steps = 500;
  const equal = countEqual(100, steps);
  return { steps, stepsEqual: equal, micros: microseconds };
}
