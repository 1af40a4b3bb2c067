import test from "ava";
import { GuildstreamError } from "../../src/core/errors.js";
import { decodeMessage, encodeEvent, isSafeState } from "../../src/core/event.js";

const cause = { shard: 0, session: "abc", s: 7, t: "MESSAGE_CREATE", id: "1" };
const event = {
  v: 1,
  rev: 1,
  epoch: 1,
  by: "w",
  at: 5,
  ops: [{ op: "replace", path: "/a", value: 1 }],
  cause,
};

function reasonOf(kind: string | undefined, body: unknown): string | undefined {
  try {
    decodeMessage(kind, typeof body === "string" ? body : JSON.stringify(body));
    return undefined;
  } catch (error) {
    if (error instanceof GuildstreamError && error.code === "MESSAGE_INVALID") return error.message;
    throw error;
  }
}

test("what is encoded is decoded", (t) => {
  const effects = [{ kind: "message" as const, channelId: "1", nonce: "n", body: { content: "hi" } }];
  for (const given of [[], effects]) {
    const opsJson = '{"op":"add","path":"/x","value":{"y":[1,null]}},{"op":"remove","path":"/z"}';
    const text = encodeEvent({ rev: 3, epoch: 2, by: 'w"1', at: 9, opsJson, cause, effects: given });
    const decoded = decodeMessage("event", text);
    t.is(decoded.kind, "event");
    t.like(decoded, { v: 1, rev: 3, epoch: 2, by: 'w"1', at: 9, cause });
    if (decoded.kind !== "event") return;
    t.is(JSON.stringify(decoded.ops), `[${opsJson}]`);
    t.deepEqual(decoded.effects ?? [], given);
  }
  const snapshot = { v: 1, rev: 3, epoch: 2, by: "w", at: 1, state: { a: 1 }, cursor: null, head: 8 };
  t.like(decodeMessage("snapshot", JSON.stringify(snapshot)), { kind: "snapshot", ...snapshot });
  t.like(decodeMessage("tombstone", '{"v":1,"rev":4,"epoch":2,"by":"w","at":1}'), {
    kind: "tombstone",
    rev: 4,
  });
});

test("what is not a message of this version is refused with a reason", (t) => {
  t.regex(reasonOf(undefined, event)!, /no Guildstream-Kind/);
  t.regex(reasonOf("Event", event)!, /unknown Guildstream-Kind "Event"/);
  t.regex(reasonOf("event", "{")!, /not JSON/);
  t.regex(reasonOf("event", "")!, /not JSON/);
  t.regex(reasonOf("event", { ...event, v: 2 })!, /unknown version 2/);
  for (const body of [null, 1, "[]", [], {}, "null"]) t.truthy(reasonOf("event", body), JSON.stringify(body));
});

const broken: [name: string, change: object][] = [
  ["a missing revision", { rev: undefined }],
  ["a negative revision", { rev: -1 }],
  ["a revision that is not whole", { rev: 1.5 }],
  ["a revision that is a text", { rev: "1" }],
  ["a missing epoch", { epoch: undefined }],
  ["an empty writer", { by: "" }],
  ["no time", { at: null }],
  ["ops that are no list", { ops: {} }],
  ["an unknown op", { ops: [{ op: "merge", path: "/a", value: 1 }] }],
  ["an op without a path", { ops: [{ op: "add", value: 1 }] }],
  ["a path that is no pointer", { ops: [{ op: "add", path: "a", value: 1 }] }],
  ["an add without a value", { ops: [{ op: "add", path: "/a" }] }],
  ["a null op", { ops: [null] }],
  ["a move without from", { ops: [{ op: "move", path: "/a" }] }],
  ["no cause", { cause: undefined }],
  ["a cause without a session", { cause: { ...cause, session: undefined } }],
  ["a cause with a negative s", { cause: { ...cause, s: -1 } }],
  ["effects that are none", { effects: [{ kind: "boom" }] }],
];

for (const [name, change] of broken) {
  test(`an event with ${name} is refused`, (t) => {
    t.is(reasonOf("event", event), undefined);
    t.truthy(reasonOf("event", { ...event, ...change }));
  });
}

test("nothing reaches a prototype", (t) => {
  const attempts = [
    '[{"op":"add","path":"/__proto__/x","value":1}]',
    '[{"op":"add","path":"/constructor/prototype/x","value":1}]',
    '[{"op":"add","path":"/a/prototype","value":1}]',
    '[{"op":"replace","path":"/a","value":{"__proto__":{"x":1}}}]',
    '[{"op":"replace","path":"/a","value":[{"constructor":{"x":1}}]}]',
    '[{"op":"move","path":"/a","from":"/__proto__"}]',
    '[{"op":"replace","path":"/a","value":{"\\u005f\\u005fproto__":{"x":1}}}]',
    '[{"op":"add","path":"/\\u005f_proto__/x","value":1}]',
  ];
  for (const ops of attempts) {
    const text = JSON.stringify({ ...event, ops: [] }).replace('"ops":[]', `"ops":${ops}`);
    t.regex(reasonOf("event", text) ?? "accepted", /refused (key|pointer)/, ops);
  }
  const state =
    '{"v":1,"rev":1,"epoch":1,"by":"w","at":1,"state":{"a":{"__proto__":1}},"cursor":null,"head":1}';
  t.regex(reasonOf("snapshot", state) ?? "accepted", /refused key/);
  t.false(isSafeState(JSON.parse('{"a":[{"__proto__":1}]}')));
});

test("the same words as plain text are data", (t) => {
  const ops = [{ op: "replace", path: "/a", value: 'say "constructor" or __proto__' }];
  t.is(reasonOf("event", { ...event, ops }), undefined);
  t.true(isSafeState({ text: "__proto__" }));
});
