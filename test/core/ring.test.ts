import test from "ava";
import fc from "fast-check";
import { DispatchRing, type RingEntry } from "../../src/core/ring.js";

test("a ring hands out in order, refuses when full, and frees the completed prefix", (t) => {
  const ring = new DispatchRing<string>(2);
  t.true(ring.isEmpty);
  t.is(ring.shift(), undefined);
  t.is(ring.watermark, undefined);
  t.true(ring.push("a", "S", 1, 7));
  t.true(ring.push("b", "S", 2));
  t.false(ring.push("c", "S", 3));
  const a = ring.shift()!;
  t.deepEqual([a.dispatch, a.session, a.s, a.at], ["a", "S", 1, 7]);
  const b = ring.shift()!;
  ring.complete(b);
  t.is(ring.watermark, undefined);
  t.false(ring.push("c", "S", 3), "a completed dispatch behind an open one frees nothing");
  ring.complete(a);
  t.deepEqual(ring.watermark, { session: "S", s: 2 });
  t.true(ring.isEmpty);
  t.true(ring.push("c", "T", 1));
});

test("a payload is let go when it is complete, also behind an open one", (t) => {
  const ring = new DispatchRing<object>(4);
  ring.push({}, "S", 1);
  ring.push({}, "S", 2);
  ring.shift();
  const second = ring.shift()!;
  ring.complete(second);
  t.is(second.dispatch, undefined as unknown as object);
});

test("a checkpoint is the watermark until the first dispatch is complete", (t) => {
  const ring = new DispatchRing<string>(4, { session: "S", s: 41 });
  t.deepEqual(ring.watermark, { session: "S", s: 41 });
  ring.push("a", "S", 42);
  ring.complete(ring.shift()!);
  t.deepEqual(ring.watermark, { session: "S", s: 42 });
});

test("misuse is a bug: completed twice, completed before its shift, a size that is no power of two", (t) => {
  t.throws(() => new DispatchRing(3), { message: /power of two/ });
  const ring = new DispatchRing<string>(4);
  ring.push("a", "S", 1);
  ring.push("b", "S", 2);
  ring.shift();
  const b = ring.shift()!;
  ring.complete(b);
  t.throws(() => ring.complete(b), { message: /once/ });
});

/** The obvious ring: an array of everything, looked through again at every question. */
class Model {
  all: { id: number; session: string; s: number; shifted: boolean; complete: boolean }[] = [];
  slots: number;
  constructor(slots: number) {
    this.slots = slots;
  }
  prefix(): number {
    const open = this.all.findIndex((entry) => !entry.complete);
    return open === -1 ? this.all.length : open;
  }
}

test("against a model: any order of pushes, shifts and completions, over session changes", (t) => {
  const command = fc.oneof(
    { weight: 5, arbitrary: fc.constant({ kind: "push" as const }) },
    { weight: 4, arbitrary: fc.constant({ kind: "shift" as const }) },
    { weight: 4, arbitrary: fc.record({ kind: fc.constant("complete" as const), pick: fc.nat() }) },
    { weight: 1, arbitrary: fc.constant({ kind: "session" as const }) },
  );
  fc.assert(
    fc.property(fc.constantFrom(1, 2, 4, 8), fc.array(command, { maxLength: 200 }), (slots, commands) => {
      const ring = new DispatchRing<number>(slots);
      const model = new Model(slots);
      const taken: { entry: RingEntry<number>; id: number }[] = [];
      let [session, s, id] = [1, 0, 0];
      for (const command of commands) {
        if (command.kind === "push") {
          const fits = model.all.length - model.prefix() < slots;
          if (ring.push(id, `S${session}`, s + 1) !== fits) return false;
          if (fits) {
            s += 1;
            model.all.push({ id, session: `S${session}`, s, shifted: false, complete: false });
            id += 1;
          }
        } else if (command.kind === "shift") {
          const expected = model.all.find((entry) => !entry.shifted);
          const entry = ring.shift();
          if (entry?.dispatch !== expected?.id) return false;
          if (entry === undefined || expected === undefined) continue;
          expected.shifted = true;
          taken.push({ entry, id: expected.id });
        } else if (command.kind === "complete") {
          if (taken.length === 0) continue;
          const [done] = taken.splice(command.pick % taken.length, 1);
          ring.complete(done!.entry);
          model.all[done!.id]!.complete = true;
        } else {
          session += 1;
          s = 0;
        }
        const prefix = model.prefix();
        const last = model.all[prefix - 1];
        const mark = ring.watermark;
        if (mark?.session !== last?.session || mark?.s !== last?.s) return false;
        if (ring.held !== model.all.length - prefix) return false;
        if (ring.queued !== model.all.filter((entry) => !entry.shifted).length) return false;
        if (ring.isEmpty !== (prefix === model.all.length)) return false;
      }
      return true;
    }),
    { numRuns: 500 },
  );
  t.pass();
});
