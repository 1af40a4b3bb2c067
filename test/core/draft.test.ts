import test from "ava";
import fc from "fast-check";
import fastJsonPatch, { type Operation } from "fast-json-patch";
import { type Drafted, runDraft } from "../../src/core/draft.js";

const { applyPatch } = fastJsonPatch;

/** As the log carries them: through text, onto a copy. */
function replay(state: object, ops: Operation[]): unknown {
  const wire = JSON.parse(JSON.stringify(ops)) as Operation[];
  return applyPatch(structuredClone(state), wire, true, true).newDocument;
}

test("a mutation gives the next state and its ops; the old state stays", (t) => {
  const state = { count: 1, list: [1, 2, 3], untouched: { a: 1 } };
  const drafted = runDraft(state, (draft) => {
    draft.count += 1;
    draft.list.pop();
  });
  t.deepEqual(drafted.state, { count: 2, list: [1, 2], untouched: { a: 1 } });
  t.deepEqual(state, { count: 1, list: [1, 2, 3], untouched: { a: 1 } });
  t.is(drafted.state.untouched, state.untouched);
  t.true(drafted.changed);
  t.deepEqual(replay(state, drafted.ops), drafted.state);
});

test("nothing changed: the same state, no ops; also when a value is set to what it was", (t) => {
  const state = { count: 1, nested: { a: [1] } };
  for (const recipe of [
    () => {},
    (draft: typeof state) => {
      draft.count = 1;
    },
    (draft: typeof state) => {
      draft.count += 1;
      draft.count -= 1;
    },
    (draft: typeof state) => void draft.nested.a.length,
  ]) {
    const drafted = runDraft(state, recipe);
    t.is(drafted.state, state);
    t.deepEqual(drafted.ops, []);
    t.false(drafted.changed);
  }
});

test("what a recipe returns is ignored", (t) => {
  const drafted = runDraft({ count: 1 }, (draft) => ++draft.count) as Drafted<{ count: number }>;
  t.deepEqual(drafted.state, { count: 2 });
});

test("an async recipe resolves to the same; a synchronous one makes no promise", async (t) => {
  const state = { count: 1 };
  const drafted = await runDraft(state, async (draft) => {
    draft.count += 1;
    await Promise.resolve();
    draft.count += 1;
  });
  t.deepEqual(drafted.state, { count: 3 });
  t.deepEqual(state, { count: 1 });
  t.false(runDraft(state, () => {}) instanceof Promise);
});

test("a recipe that throws leaves the state untouched and its draft dead", async (t) => {
  const state = { count: 1, nested: { a: 1 } };
  let leaked: typeof state | undefined;
  t.throws(
    () =>
      runDraft(state, (draft) => {
        leaked = draft;
        draft.nested.a = 2;
        throw new Error("boom");
      }),
    { message: "boom" },
  );
  t.throws(() => leaked!.count, { instanceOf: TypeError });
  await t.throwsAsync(
    async () =>
      runDraft(state, async (draft) => {
        draft.nested.a = 2;
        await Promise.resolve();
        throw new Error("boom later");
      }),
    { message: "boom later" },
  );
  t.deepEqual(state, { count: 1, nested: { a: 1 } });
});

test("values that are not JSON are refused by place", (t) => {
  class Thing {}
  const cyclic: Record<string, unknown> = {};
  cyclic.self = cyclic;
  const values: [unknown, RegExp][] = [
    [undefined, /"\/x".*undefined.*delete/],
    [{ deep: [{ a: undefined }] }, /"\/x\/deep\/0\/a".*undefined/],
    [Number.NaN, /NaN/],
    [Number.POSITIVE_INFINITY, /Infinity/],
    [() => {}, /function/],
    [10n, /bigint/],
    [Symbol("s"), /symbol/],
    [new Date(0), /Date/],
    [new Map(), /Map/],
    [new Thing(), /Thing/],
    [cyclic, /deeper than/],
    [JSON.parse('{"__proto__": 1}'), /"__proto__" is refused/],
    [{ a: { constructor: 1 } }, /"constructor" is refused/],
    [new Array(1), /undefined/],
  ];
  for (const [value, message] of values) {
    const state: Record<string, unknown> = { kept: 1 };
    const act = () => runDraft(state, (draft) => void Object.assign(draft, { x: value }));
    t.like(t.throws(act), { code: "STATE_INVALID" }, String(message));
    t.regex(t.throws(act)!.message, message);
    t.deepEqual(state, { kept: 1 });
  }
});

test("keys that reach a prototype are refused, and a draft inside itself", (t) => {
  const recipes = [
    ...["__proto__", "constructor", "prototype"].map((key) => (draft: Record<string, object>) => {
      (draft.users as Record<string, unknown>)[key] = { a: 1 };
    }),
    (draft: Record<string, object>) => {
      draft.users = draft;
    },
  ];
  for (const recipe of recipes) {
    const state: Record<string, object> = { users: {} };
    t.throws(() => runDraft(state, recipe));
    t.deepEqual(state, { users: {} });
  }
  t.is(({} as Record<string, unknown>).a, undefined);
});

// Properties.

const key = fc
  .oneof(
    {
      weight: 5,
      arbitrary: fc.constantFrom("a", "b", "c", "0", "1", "-", "", "a/b", "m~n", "~1", "~0", "é", " "),
    },
    { weight: 1, arbitrary: fc.string({ maxLength: 4 }) },
  )
  .filter((text) => !["__proto__", "constructor", "prototype"].includes(text));

const json = fc.letrec((tie) => ({
  value: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    fc.constantFrom(null, true, false, 0, 1, "", "text"),
    fc.integer(),
    fc.string({ maxLength: 4 }),
    fc.array(tie("value"), { maxLength: 4 }),
    fc.dictionary(key, tie("value"), { maxKeys: 4, noNullPrototype: true }),
  ),
})).value;

const root = fc.dictionary(key, json, { maxKeys: 5, noNullPrototype: true });

/** A mutation somewhere in the tree: `walk` chooses the way down, `pick` where and what to do there. */
const mutation = fc.record({
  walk: fc.array(fc.nat(7), { maxLength: 4 }),
  action: fc.constantFrom(
    "set",
    "delete",
    "push",
    "pop",
    "unshift",
    "splice",
    "sort",
    "reverse",
    "copy",
    "move",
  ) as fc.Arbitrary<string>,
  key,
  index: fc.nat(5),
  count: fc.nat(3),
  value: json,
});
type Mutation = typeof mutation extends fc.Arbitrary<infer M> ? M : never;

function isNode(value: unknown): value is Record<string, unknown> | unknown[] {
  return typeof value === "object" && value !== null;
}

function mutate(draft: object, { walk, action, key, index, count, value }: Mutation): void {
  let node: Record<string, unknown> | unknown[] = draft as Record<string, unknown>;
  for (const step of walk) {
    const children: unknown[] = Object.values(node).filter(isNode);
    if (children.length === 0) break;
    node = children[step % children.length] as Record<string, unknown>;
  }
  const fresh = structuredClone(value);
  if (Array.isArray(node)) {
    switch (action) {
      case "push":
        node.push(fresh);
        return;
      case "pop":
        node.pop();
        return;
      case "unshift":
        node.unshift(fresh);
        return;
      case "sort":
        node.sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
        return;
      case "reverse":
        node.reverse();
        return;
      case "set":
        if (node.length > 0) node[index % node.length] = fresh;
        return;
      default:
        node.splice(index, count, fresh);
        return;
    }
  }
  const keys = Object.keys(node);
  const other = keys[index % Math.max(1, keys.length)];
  switch (action) {
    case "delete":
      if (other !== undefined) delete node[other];
      return;
    case "move":
      if (other !== undefined) {
        const moved = node[other];
        delete node[other];
        node[key] = moved;
      }
      return;
    case "copy":
      if (other !== undefined && !isNode(node[other])) node[key] = node[other];
      return;
    default:
      node[key] = fresh;
      return;
  }
}

test("the ops give the next state exactly, step after step, and the old state is never touched", (t) => {
  fc.assert(
    fc.property(
      root,
      fc.array(fc.array(mutation, { minLength: 1, maxLength: 6 }), { maxLength: 6 }),
      (start, steps) => {
        let state: object = start;
        for (const mutations of steps) {
          const before = JSON.stringify(state);
          const plain = structuredClone(state);
          for (const step of mutations) mutate(plain, step);
          const drafted = runDraft(state, (draft) => {
            for (const step of mutations) mutate(draft, step);
          });
          t.is(JSON.stringify(state), before);
          t.deepEqual(drafted.state, plain as never);
          t.deepEqual(replay(state, drafted.ops), plain);
          state = drafted.state;
        }
      },
    ),
    { numRuns: 1_000 },
  );
});
