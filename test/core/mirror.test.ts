import test from "ava";
import fc from "fast-check";
import type { MirroredState } from "../../src/core/bot.js";
import { runDraft } from "../../src/core/draft.js";
import { mirrorReducers } from "../../src/core/mirror.js";

const mirror = mirrorReducers({
  guild: ["name", "member_count"],
  channels: ["name", "topic", "permission_overwrites"],
  roles: ["name"],
  members: ["nick", "roles"],
})!;

function reduce(state: MirroredState, t: string, data: unknown) {
  return runDraft(state, (draft) => mirror(draft, t, data));
}

function after(...dispatches: [string, unknown][]): MirroredState {
  return dispatches.reduce<MirroredState>((state, [t, data]) => reduce(state, t, data).state, {});
}

const guild = {
  id: "1",
  name: "Guild",
  owner_id: "9",
  member_count: 2,
  channels: [
    { id: "10", name: "general", topic: "Talk", type: 0, permission_overwrites: [{ id: "1", allow: "0" }] },
    { id: "11", name: "other", type: 0 },
  ],
  roles: [{ id: "20", name: "mods", color: 1 }],
  members: [
    { user: { id: "30", username: "a" }, nick: "A", roles: ["20"] },
    { user: { id: "31", username: "b" }, roles: [] },
  ],
};

test("nothing to mirror is no reducer", (t) => {
  t.is(mirrorReducers(undefined), undefined);
  t.is(mirrorReducers({}), undefined);
  t.is(mirrorReducers({ channels: [] }), undefined);
});

test("GUILD_CREATE keeps the whitelisted fields and nothing else", (t) => {
  t.deepEqual(after(["GUILD_CREATE", guild]).discord, {
    guild: { name: "Guild", member_count: 2 },
    channels: {
      "10": { name: "general", topic: "Talk", permission_overwrites: [{ id: "1", allow: "0" }] },
      "11": { name: "other" },
    },
    roles: { "20": { name: "mods" } },
    members: { "30": { nick: "A", roles: ["20"] }, "31": { roles: [] } },
  });
});

test("the same GUILD_CREATE again makes no ops, nor does one with its keys in another order", (t) => {
  const state = after(["GUILD_CREATE", guild]);
  const reordered = JSON.parse(JSON.stringify(guild), (_key, value: unknown) =>
    value !== null && typeof value === "object" && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).reverse())
      : value,
  );
  for (const again of [structuredClone(guild), reordered]) {
    t.deepEqual(reduce(state, "GUILD_CREATE", again).ops, []);
  }
});

test("what vanished while the bot was away goes with the next GUILD_CREATE, down to single fields", (t) => {
  const { topic: _gone, ...general } = guild.channels[0]!;
  const next = { ...guild, channels: [general], roles: [], members: [guild.members[0]], member_count: 1 };
  const state = after(["GUILD_CREATE", guild], ["GUILD_CREATE", next]);
  t.deepEqual(Object.keys(state.discord!.channels!), ["10"]);
  t.false("topic" in state.discord!.channels!["10"]!);
  t.deepEqual(state.discord!.roles, {});
  t.deepEqual(Object.keys(state.discord!.members!), ["30"]);
});

test("a large guild's GUILD_CREATE tells some members only: the others stay", (t) => {
  const some = { ...guild, members: [guild.members[0]], member_count: 2 };
  const state = after(["GUILD_CREATE", guild], ["GUILD_CREATE", some]);
  t.deepEqual(Object.keys(state.discord!.members!), ["30", "31"]);
});

test("an outage changes nothing; leaving the guild takes the mirror away", (t) => {
  const state = after(["GUILD_CREATE", guild]);
  t.false(reduce(state, "GUILD_DELETE", { id: "1", unavailable: true }).changed);
  t.false(reduce(state, "GUILD_CREATE", { id: "1", unavailable: true }).changed);
  t.deepEqual(reduce(state, "GUILD_DELETE", { id: "1" }).state, {});
});

test("channels, roles and members come, change and go", (t) => {
  const state = after(
    ["GUILD_CREATE", guild],
    ["CHANNEL_CREATE", { id: "12", name: "new" }],
    ["CHANNEL_UPDATE", { id: "10", name: "renamed" }],
    ["CHANNEL_DELETE", { id: "11" }],
    ["GUILD_ROLE_CREATE", { role: { id: "21", name: "new" } }],
    ["GUILD_ROLE_UPDATE", { role: { id: "21", name: "newer" } }],
    ["GUILD_ROLE_DELETE", { role_id: "20" }],
    ["GUILD_MEMBER_ADD", { user: { id: "32" }, roles: [] }],
    ["GUILD_MEMBER_UPDATE", { user: { id: "30" }, roles: [] }],
    ["GUILD_MEMBER_REMOVE", { user: { id: "31" } }],
    ["GUILD_UPDATE", { id: "1", name: "Renamed", roles: [{ id: "21", name: "newest" }] }],
  );
  t.deepEqual(state.discord, {
    guild: { name: "Renamed", member_count: 2 },
    channels: { "10": { name: "renamed" }, "12": { name: "new" } },
    roles: { "21": { name: "newest" } },
    members: { "30": { nick: "A", roles: [] }, "32": { roles: [] } },
  });
});

test("dispatches of others, and ones about entities nobody knows, change nothing", (t) => {
  const state = after(["GUILD_CREATE", guild]);
  for (const [name, data] of [
    ["MESSAGE_CREATE", { id: "1", content: "x" }],
    ["THREAD_CREATE", { id: "40", name: "thread" }],
    ["CHANNEL_DELETE", { id: "99" }],
    ["GUILD_ROLE_DELETE", { role_id: "99" }],
    ["GUILD_MEMBER_REMOVE", { user: { id: "99" } }],
    ["CHANNEL_CREATE", null],
    ["CHANNEL_CREATE", {}],
  ] as const) {
    t.deepEqual(reduce(state, name, data).ops, [], name);
  }
});

test("any GUILD_CREATE after any other gives what it alone would give", (t) => {
  const text = fc.constantFrom("a", "b", "c");
  const entity = fc.record({ id: text, name: text, topic: text }, { requiredKeys: ["id"] });
  const create = fc.record({ name: text, channels: fc.uniqueArray(entity, { selector: ({ id }) => id }) });
  fc.assert(
    fc.property(create, create, (first, second) => {
      const [one, both] = [
        after(["GUILD_CREATE", second]),
        after(["GUILD_CREATE", first], ["GUILD_CREATE", second]),
      ];
      t.deepEqual(both, one);
      t.deepEqual(reduce(both, "GUILD_CREATE", second).ops, []);
    }),
  );
});
