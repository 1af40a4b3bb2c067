/**
 * Specs of whom a worker asks: shares of requests for slow, lagging and failed nodes, and how each gets its share back.
 * Time and luck are the test's.
 */
import test, { type ExecutionContext } from "ava";
import { type NodeCandidate, NodeChoice } from "../../src/cluster/node-choice.js";
import { limits } from "../../src/core/limits.js";
import { Random } from "../../src/simulator/random.js";

interface Node extends NodeCandidate {
  answerMs: number;
  /** Requests end unanswered. */
  silent?: boolean;
}

/** Asks as a loader does, one request after the other, `gapMs` apart; the clock goes on. */
class Story {
  readonly choice: NodeChoice;
  now = 1_000;

  constructor(t: ExecutionContext, seed: number) {
    t.log(`seed ${seed}`);
    const random = new Random(seed);
    this.choice = new NodeChoice(() => random.next());
  }

  /** How many requests each node was asked first. */
  ask(nodes: readonly Node[], requests: number, gapMs: number): Record<string, number> {
    const asked = Object.fromEntries(nodes.map((node) => [node.id, 0]));
    for (let n = 0; n < requests; n += 1) {
      this.now += gapMs;
      const { first, last } = this.choice.order(nodes, this.now);
      const id = first[0] ?? last[0]!;
      asked[id]! += 1;
      this.request(nodes.find((node) => node.id === id)!);
    }
    return asked;
  }

  request(node: Node): void {
    this.choice.asked(node.id, this.now);
    this.now += node.silent ? limits.dbGetTimeoutMs : node.answerMs;
    if (node.silent) this.choice.failed(node.id, this.now);
    else this.choice.answered(node.id, node.answerMs, this.now);
  }
}

const quick = (id: string): Node => ({ id, lag: 0, answerMs: 1 });

test("equal nodes share the requests equally, and every node is in the order", (t) => {
  const story = new Story(t, 1);
  const nodes = ["a", "b", "c"].map(quick);
  const asked = story.ask(nodes, 3_000, 1);
  for (const id of ["a", "b", "c"]) t.true(asked[id]! > 850 && asked[id]! < 1_150, JSON.stringify(asked));
  const { first, last } = story.choice.order(nodes, story.now);
  t.deepEqual([...first].sort(), ["a", "b", "c"]);
  t.deepEqual(last, []);
});

test("a node ten times slower gets few requests, but some; quick again, it gets its half again", (t) => {
  const story = new Story(t, 2);
  const slow = { ...quick("b"), answerMs: limits.nodeAnswerFloorMs * 10 };
  const asked = story.ask([quick("a"), slow], 3_000, 1);
  t.true(asked.b! > 150 && asked.b! < 600, JSON.stringify(asked));
  story.ask([quick("a"), quick("b")], 1_000, 1);
  const after = story.ask([quick("a"), quick("b")], 1_000, 1);
  t.true(after.b! > 400, JSON.stringify(after));
});

test("one very slow answer is forgotten with time, also when nobody asks", (t) => {
  const story = new Story(t, 3);
  story.request(quick("a"));
  story.request({ ...quick("b"), answerMs: 900 });
  const soon = story.ask([quick("a"), quick("b")], 100, 0);
  t.true(soon.b! < 10, JSON.stringify(soon));
  story.now += limits.nodeAnswerHalfLifeMs * 10;
  const later = story.ask([quick("a"), quick("b")], 1_000, 0);
  t.true(later.b! > 400, JSON.stringify(later));
});

test("a node that lags gets fewer requests the further it is behind", (t) => {
  const story = new Story(t, 4);
  const share = (lag: number) => story.ask([quick("a"), { ...quick("b"), lag }], 2_000, 1).b!;
  const [none, some, far] = [
    share(0),
    share(limits.nodeLagMessages * 4),
    share(limits.nodeLagMessages * 100),
  ];
  t.true(none > 850, `${none}`);
  t.true(some > 200 && some < 500, `${some}`);
  t.true(far > 0 && far < 60, `${far}`);
});

test("requests without an answer yet count against a node: a burst does not all go to a silent one", (t) => {
  const story = new Story(t, 5);
  const asked: Record<string, number> = { a: 0, b: 0 };
  for (let n = 0; n < 64; n += 1) {
    const id = story.choice.order([quick("a"), quick("b")], story.now).first[0]!;
    asked[id]! += 1;
    story.choice.asked(id, story.now);
    if (id === "a") story.choice.answered("a", 1, story.now);
  }
  t.true(asked.b! <= 12, JSON.stringify(asked));
});

test("a node that failed is last for a bounded time, then one request tries it while the others keep away", (t) => {
  const story = new Story(t, 6);
  const nodes = [quick("a"), { ...quick("b"), silent: true }];
  const failures: number[] = [];
  const until = story.now + 60_000;
  while (story.now < until) {
    const { first, last } = story.choice.order(nodes, story.now);
    if (first[0] === "b") {
      failures.push(story.now);
      story.choice.asked("b", story.now);
      const known = failures.length > 1;
      t.is(story.choice.order(nodes, story.now + 1).last[0], known ? "b" : undefined, "one at a time");
      story.choice.asked("a", story.now);
      story.choice.answered("a", 1, story.now);
      story.now += limits.dbGetTimeoutMs;
      story.choice.failed("b", story.now);
      t.deepEqual(story.choice.order(nodes, story.now), { first: ["a"], last: ["b"] });
    } else {
      t.true(first[0] === "a" && last.length <= 1);
      story.request(nodes[0]!);
      story.now += 10;
    }
  }
  t.true(failures.length >= 5 && failures.length <= 12, `${failures.length} failures in a minute`);
  story.now += limits.nodeAvoidMaxMs;
  story.ask(["a", "b"].map(quick), 50, 10);
  const after = story.ask(["a", "b"].map(quick), 1_000, 10);
  t.true(after.b! > 400, JSON.stringify(after));
});

test("requests that fail together are one failure", (t) => {
  const story = new Story(t, 7);
  for (let n = 0; n < 32; n += 1) story.choice.asked("b", story.now);
  for (let n = 0; n < 32; n += 1) story.choice.failed("b", story.now + 1_000 + n);
  const at = story.now + 1_000 + limits.nodeAvoidMinMs;
  t.deepEqual(story.choice.order([quick("a"), quick("b")], at - 1).last, ["b"]);
  t.deepEqual(story.choice.order([quick("a"), quick("b")], at).last, []);
});
