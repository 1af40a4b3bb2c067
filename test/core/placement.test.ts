import test from "ava";
import fc from "fast-check";
import type { MemberStatus } from "../../src/core/members.js";
import { type PlacedShard, type PlacedWorker, type Placement, place } from "../../src/core/placement.js";

/** The list as everybody sees it, and what each worker holds: the smallest world that placement runs in. */
class World {
  readonly workers = new Map<string, PlacedWorker>();
  readonly shards = new Map<number, PlacedShard>();
  #revision = 0;

  constructor(readonly shardCount: number) {}

  add(id: string, fields: Partial<PlacedWorker> = {}): void {
    const status: MemberStatus = "ready";
    const base = { id, incarnation: `${id}.1`, successor: "", status, live: true, reserved: false };
    this.workers.set(id, { ...base, ...fields });
  }

  own(shard: number, owner: string, incarnation = owner === "" ? "" : `${owner}.1`, recent = false): void {
    this.#revision += 1;
    this.shards.set(shard, { owner, incarnation, revision: this.#revision, recent });
  }

  held(id: string): Map<number, number> {
    const { incarnation } = this.workers.get(id)!;
    return new Map(
      [...this.shards].flatMap(([shard, entry]) =>
        entry.incarnation === incarnation ? [[shard, entry.revision] as const] : [],
      ),
    );
  }

  place(id: string, held = this.held(id)): Placement {
    const { incarnation } = this.workers.get(id)!;
    const { shardCount, shards, workers } = this;
    return place({ self: { id, incarnation }, shardCount, shards, workers, held });
  }

  /** One turn of a worker, as the claims do it. */
  turn(id: string): boolean {
    const { claim, surplus } = this.place(id);
    for (const shard of claim) this.own(shard, id, this.workers.get(id)!.incarnation);
    if (surplus > 0) this.own(Math.max(...this.held(id).keys()), "");
    return claim.length > 0 || surplus > 0;
  }
}

test("the first worker takes everything; the second is left half, one shard at a time", (t) => {
  const world = new World(4);
  world.add("a");
  t.deepEqual(world.place("a"), { claim: [0, 1, 2, 3], surplus: 0, lost: [] });
  world.turn("a");
  world.add("b");
  t.is(world.place("a").surplus, 2);
  t.deepEqual(world.place("b").claim, []);
  world.turn("a");
  t.deepEqual(world.place("b").claim, [3]);
});

test("a dead worker's shards are free, a reserved one's are kept, a leaving one's stay until it gives them up", (t) => {
  const world = new World(3);
  world.add("a");
  world.add("dead", { live: false });
  world.add("back-soon", { live: false, status: "offline-temporary", reserved: true });
  world.add("dying", { status: "dying" });
  world.own(0, "dead");
  world.own(1, "back-soon");
  world.own(2, "dying");
  t.deepEqual(world.place("a").claim, [0]);
  world.add("back-soon", { live: false, status: "offline-temporary", reserved: false });
  t.deepEqual(world.place("a").claim, [0, 1]);
});

test("an earlier life's shards are free at once, also our own", (t) => {
  const world = new World(2);
  world.add("a", { incarnation: "a.2" });
  world.own(0, "a");
  world.own(1, "a");
  t.deepEqual(world.place("a").claim, [0, 1]);
});

test("a claim whose owner is not in the picture yet is respected while it is recent", (t) => {
  const world = new World(1);
  world.add("a");
  world.own(0, "stranger", "stranger.1", true);
  t.deepEqual(world.place("a").claim, []);
  world.own(0, "stranger", "stranger.1", false);
  t.deepEqual(world.place("a").claim, [0]);
});

test("a held shard is lost when a newer entry names another, and not when the picture is only late", (t) => {
  const world = new World(1);
  world.add("a");
  world.add("b");
  world.own(0, "b");
  const { revision } = world.shards.get(0)!;
  t.deepEqual(world.place("a", new Map([[0, revision + 1]])).lost, []);
  t.deepEqual(world.place("a", new Map([[0, revision - 1]])).lost, [0]);
});

test("what a successor has claimed is its parent's, for as long as that lives", (t) => {
  const world = new World(2);
  world.add("a");
  world.add("b", { successor: "b.2" });
  world.own(0, "b", "b.2");
  world.own(1, "b");
  t.is(world.place("a").claim.length, 0);
  world.add("b", { successor: "b.2", live: false });
  t.is(world.place("a").claim.length, 2);
});

test("whoever comes, dies or leaves: shares settle within one shard of each other, and then nothing moves", (t) => {
  const step = fc.tuple(fc.constantFrom("join", "die", "leave", "return"), fc.nat(5));
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 24 }), fc.array(step, { maxLength: 12 }), (shardCount, steps) => {
      const world = new World(shardCount);
      world.add("w0");
      for (const [what, n] of steps) {
        const id = `w${n}`;
        const known = world.workers.get(id);
        if (what === "join" && known === undefined) world.add(id);
        if (known === undefined || id === "w0") continue;
        if (what === "die") world.add(id, { ...known, live: false });
        if (what === "leave") world.add(id, { ...known, status: "dying", live: false });
        if (what === "return") world.add(id, { incarnation: `${id}.2` });
        // Somewhere in the middle of settling the next thing happens.
        for (const worker of world.workers.values()) if (worker.live && n % 2 === 0) world.turn(worker.id);
      }
      const live = [...world.workers.values()].filter((worker) => worker.live).map((worker) => worker.id);
      let turns = 0;
      while (live.map((id) => world.turn(id)).some(Boolean)) {
        turns += 1;
        if (turns > 4 * shardCount + 4) return false;
      }
      const counts = live.map((id) => world.held(id).size);
      const total = counts.reduce((sum, count) => sum + count, 0);
      return total === shardCount && Math.max(...counts) - Math.min(...counts) <= 1;
    }),
    { seed: 7, numRuns: 500 },
  );
  t.pass();
});
