import test from "ava";
import community, { type CommunityState, levelOf } from "../../src/bots/community.js";
import { command, dispatch } from "./run.js";

/** A message's id, so many seconds after Discord's epoch and a day. */
function idAt(seconds: number): string {
  return String(BigInt(86_400_000 + seconds * 1_000) << 22n);
}

function message(seconds: number, authorId = "200", more: object = {}): object {
  return { id: idAt(seconds), channel_id: "300", author: { id: authorId, ...more } };
}

const initial = community.state.initial("1");

function withXp(...xp: number[]): CommunityState {
  const members = Object.fromEntries(
    xp.map((points, index) => [String(200 + index), { xp: points, lastAt: 0 }]),
  );
  return { ...initial, members };
}

const tagged: CommunityState = { ...initial, tags: { faq: { text: "Read it.", authorId: "200", uses: 0 } } };

test("levels: 100 points for the first, 100 more for each after it", (t) => {
  t.deepEqual([0, 99, 100, 299, 300, 599, 600, 5_500].map(levelOf), [0, 0, 1, 1, 2, 2, 3, 10]);
});

test("a message earns points, another within a minute does not", async (t) => {
  const first = await dispatch(community, initial, "MESSAGE_CREATE", message(0));
  t.is(first.state.members["200"]?.xp, 15);
  const soon = await dispatch(community, first.state, "MESSAGE_CREATE", message(59));
  t.false(soon.changed);
  const later = await dispatch(community, first.state, "MESSAGE_CREATE", message(60));
  t.is(later.state.members["200"]?.xp, 30);
});

test("bots earn nothing, and nobody does while levels are off", async (t) => {
  t.false((await dispatch(community, initial, "MESSAGE_CREATE", message(0, "201", { bot: true }))).changed);
  const off = await command(community, initial, "settings", {
    subcommand: "levels",
    options: { state: "off" },
  });
  t.deepEqual(off.replies, ["Levels are off."]);
  t.false((await dispatch(community, off.state, "MESSAGE_CREATE", message(0))).changed);
});

test("a new level is announced where it happened, or in the channel that was set", async (t) => {
  const there = await dispatch(community, withXp(90), "MESSAGE_CREATE", message(0));
  t.deepEqual(there.sent, [{ channelId: "300", content: "<@200> is now level 1." }]);
  const options = { channel: "301" };
  const set = await command(community, withXp(90), "settings", { subcommand: "announce", options });
  t.deepEqual(set.replies, ["Level-ups are announced in <#301>."]);
  const set301 = await dispatch(community, set.state, "MESSAGE_CREATE", message(0));
  t.is(set301.sent[0]?.channelId, "301");
  const gone = await dispatch(community, set.state, "CHANNEL_DELETE", { id: "301" });
  t.is(gone.state.settings.announceChannelId, null);
});

test("/rank tells level, points and place; of someone unknown that there is nothing", async (t) => {
  const state = withXp(100, 300);
  const own = await command(community, state, "rank");
  t.deepEqual(own.replies, ["<@200> is level 1 with 100 points, number 2 here."]);
  const other = await command(community, state, "rank", { options: { member: "201" } });
  t.deepEqual(other.replies, ["<@201> is level 2 with 300 points, number 1 here."]);
  const unknown = await command(community, state, "rank", { userId: "999" });
  t.deepEqual(unknown.replies, ["<@999> has not earned anything yet."]);
});

test("/leaderboard: the ten best, most points first; a member who left is off it", async (t) => {
  const state = withXp(...Array.from({ length: 12 }, (_, index) => index * 100));
  const ran = await command(community, state, "leaderboard");
  const lines = ran.replies[0]!.split("\n");
  t.is(lines.length, 10);
  t.is(lines[0], "1. <@211>: level 4, 1100 points");
  const left = await dispatch(community, state, "GUILD_MEMBER_REMOVE", { user: { id: "211" } });
  t.regex((await command(community, left.state, "leaderboard")).replies[0]!, /^1\. <@210>/);
  t.deepEqual((await command(community, initial, "leaderboard")).replies, ["Nobody has said anything yet."]);
});

test("tags are kept, called up, listed, and deleted by their author", async (t) => {
  const options = { name: "faq", text: "Read it." };
  const kept = await command(community, initial, "tag", { subcommand: "set", options });
  t.deepEqual(kept.state.tags, tagged.tags);
  const shown = await command(community, tagged, "tag", { subcommand: "get", options });
  t.deepEqual(shown.replies, ["Read it."]);
  t.is(shown.state.tags.faq?.uses, 1);
  t.deepEqual((await command(community, tagged, "tag", { subcommand: "list" })).replies, ["faq"]);
  t.deepEqual((await command(community, tagged, "tag", { subcommand: "delete", options })).state.tags, {});
});

test("another's tag is neither replaced nor deleted, but by who may manage messages", async (t) => {
  const asked = { userId: "201", options: { name: "faq", text: "Mine." } };
  for (const subcommand of ["set", "delete"]) {
    const ran = await command(community, tagged, "tag", { ...asked, subcommand });
    t.deepEqual(ran.replies, ['"faq" is another member\'s.']);
    t.false(ran.changed);
  }
  const manager = { ...asked, subcommand: "delete", permissions: String(1 << 13) };
  t.deepEqual((await command(community, tagged, "tag", manager)).state.tags, {});
});

test("names that are none, texts that are too long and tags that are not there are refused", async (t) => {
  const set = (name: string, text: string) =>
    command(community, tagged, "tag", { subcommand: "set", options: { name, text } });
  for (const name of ["two words", "", "x".repeat(33), "__proto__", "constructor"]) {
    const ran = await set(name, "text");
    t.regex(ran.replies[0]!, /1 to 32 letters/, name);
    t.false(ran.changed);
  }
  t.regex((await set("long", "x".repeat(1_501))).replies[0]!, /at most 1500/);
  for (const subcommand of ["get", "delete"]) {
    const ran = await command(community, tagged, "tag", { subcommand, options: { name: "constructor" } });
    t.deepEqual(ran.replies, ['There is no tag "constructor".']);
  }
});

test("there is an end to the number of tags", async (t) => {
  const tags = Object.fromEntries(
    Array.from({ length: 200 }, (_, index) => [`t${index}`, { text: "x", authorId: "200", uses: 0 }]),
  );
  const full = { ...initial, tags };
  const add = { subcommand: "set", options: { name: "one-more", text: "x" } };
  t.deepEqual((await command(community, full, "tag", add)).replies, ["There are 200 tags already."]);
  const replace = { subcommand: "set", options: { name: "t1", text: "y" } };
  t.is((await command(community, full, "tag", replace)).state.tags.t1?.text, "y");
});

test("a state of version 1 comes along", (t) => {
  const old = { xp: { "200": 120 }, tags: { faq: "Read it." } };
  t.deepEqual(community.state.migrate!(old, 1), {
    settings: { levels: true, announceChannelId: null },
    members: { "200": { xp: 120, lastAt: 0 } },
    tags: { faq: { text: "Read it.", authorId: "", uses: 0 } },
  });
  t.throws(() => community.state.migrate!({}, 7), { message: /version 7/ });
});
