import test from "ava";
import type { APIInteraction, GatewayDispatchPayload } from "discord-api-types/v10";
import { closeCodeError, endsSession } from "../../src/discord/close-codes.js";
import {
  answerBody,
  commandNameOf,
  deferBody,
  guildIdOf,
  interactionAt,
  interactionOptions,
  objectIdOf,
  replyBody,
  userIdOf,
} from "../../src/discord/dispatch.js";

function payload(t: string, d: unknown): GatewayDispatchPayload {
  return { op: 0, s: 1, t, d } as GatewayDispatchPayload;
}

function slash(options?: object[]): APIInteraction {
  return { type: 2, id: "1", data: { type: 1, name: "tag", options } } as unknown as APIInteraction;
}

test("the guild of a dispatch: its guild_id, or its id where the dispatch is the guild", (t) => {
  t.is(guildIdOf(payload("MESSAGE_CREATE", { id: "1", guild_id: "2" })), "2");
  t.is(guildIdOf(payload("MESSAGE_CREATE", { id: "1" })), undefined);
  for (const name of ["GUILD_CREATE", "GUILD_UPDATE", "GUILD_DELETE"]) {
    t.is(guildIdOf(payload(name, { id: "2" })), "2");
  }
  t.is(guildIdOf(payload("READY", { session_id: "x" })), undefined);
  t.is(guildIdOf(payload("RESUMED", null)), undefined);
  t.is(guildIdOf(payload("GUILD_CREATE", { id: 5 })), undefined);
});

test("the object of a dispatch: a new message or an interaction", (t) => {
  t.is(objectIdOf(payload("MESSAGE_CREATE", { id: "1" })), "1");
  t.is(objectIdOf(payload("INTERACTION_CREATE", { id: "1" })), "1");
  t.is(objectIdOf(payload("MESSAGE_UPDATE", { id: "1" })), undefined);
});

test("options come as plain values, those of a subcommand or a group's lifted up", (t) => {
  const option = { name: "name", type: 3, value: "faq" };
  t.deepEqual({ ...interactionOptions(slash()).options }, {});
  t.like(interactionOptions(slash([option])), { options: { name: "faq" }, subcommand: undefined });
  const sub = { name: "get", type: 1, options: [option] };
  t.like(interactionOptions(slash([sub])), { options: { name: "faq" }, subcommand: "get" });
  const group = { name: "admin", type: 2, options: [sub] };
  t.like(interactionOptions(slash([group])), { options: { name: "faq" }, subcommand: "admin get" });
  t.is(interactionOptions(slash([{ name: "list", type: 1 }])).subcommand, "list");
});

test("an option may have any name", (t) => {
  const { options } = interactionOptions(slash([{ name: "__proto__", type: 3, value: "x" }]));
  t.deepEqual(Object.entries(options), [["__proto__", "x"]]);
  t.false("constructor" in interactionOptions(slash()).options);
});

test("the command's name and the user who asked", (t) => {
  t.is(commandNameOf(slash()), "tag");
  t.is(commandNameOf({ type: 3, data: {} } as APIInteraction), undefined);
  t.is(commandNameOf({ type: 2, data: { type: 2, name: "menu" } } as APIInteraction), undefined);
  t.is(userIdOf({ member: { user: { id: "1" } } } as APIInteraction), "1");
  t.is(userIdOf({ user: { id: "2" } } as APIInteraction), "2");
});

test("a live interaction's time is its receipt, a replayed one's is its snowflake", (t) => {
  const id = String(1_000n << 22n);
  t.is(interactionAt({ id }, 1_420_070_409_000, false), 1_420_070_409_000);
  t.is(interactionAt({ id }, 1_420_070_409_000, true), 1_420_070_401_000);
  t.is(interactionAt({ id }, 5, true), 5);
});

test("bodies of answers", (t) => {
  t.deepEqual(replyBody("hi"), { content: "hi" });
  t.deepEqual(answerBody({ content: "hi", flags: 64 }), { type: 4, data: { content: "hi", flags: 64 } });
  t.deepEqual(deferBody(), { type: 5 });
  t.deepEqual(deferBody({ ephemeral: true }), { type: 5, data: { flags: 64 } });
});

test("close codes: six are final, two end the session, all others are RESUMEd", (t) => {
  const codes = [1000, 1001, 1006, ...Array.from({ length: 20 }, (_, index) => 4000 + index)];
  const final = codes.filter((code) => closeCodeError(code, 1) !== undefined);
  t.deepEqual(final, [4004, 4010, 4011, 4012, 4013, 4014]);
  t.deepEqual(codes.filter(endsSession), [4007, 4009]);
  for (const code of final) t.truthy(closeCodeError(code, 1)?.hint);
});
