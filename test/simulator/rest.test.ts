/** REST: authentication, interactions, messages, nonces, rate limits, validation, commands. */
import test, { type ExecutionContext } from "ava";
import { type Simulator, type SimulatorOptions, startSimulator } from "../../src/simulator/index.js";
import { Client, call, until } from "./client.js";

async function connected(t: ExecutionContext, options: SimulatorOptions = {}) {
  const simulator = await startSimulator({ guilds: 5, paused: true, ...options });
  t.teardown(() => simulator.close());
  const client = new Client(simulator.url);
  await client.starts();
  const guild = client.of("GUILD_CREATE")[0]!.d;
  const channel: string = guild.channels.find((one: { type: number }) => one.type === 0).id;
  return { simulator, client, guild, channel };
}

/** Lets a user call /count (or what is given) and returns the INTERACTION_CREATE the bot got. */
async function interact(simulator: Simulator, client: Client, body: object = {}) {
  const request = { guildId: simulator.guildIds[0], name: "count", ...body };
  const { json } = await call(simulator, "POST", "/control/interaction", request);
  return (
    await client.receives("the interaction", ({ t, d }) => t === "INTERACTION_CREATE" && d.id === json.id)
  ).d;
}

const callbackPath = (d: { id: string; token: string }) =>
  `/api/v10/interactions/${d.id}/${d.token}/callback`;
const reply = { type: 4, data: { content: "42" } };

test("a wrong token is 401, an unknown route 404, a wrong method 405, another version 400", async (t) => {
  const { simulator } = await connected(t);
  const wrong = await call(simulator, "GET", "/api/v10/users/@me", undefined, "wrong");
  t.deepEqual([wrong.status, wrong.json], [401, { message: "401: Unauthorized", code: 0 }]);
  t.is((await call(simulator, "GET", "/api/v10/nowhere")).status, 404);
  t.is((await call(simulator, "DELETE", "/api/v10/users/@me")).status, 405);
  t.is((await call(simulator, "GET", "/api/v9/users/@me")).json.code, 50041);
  t.is((await call(simulator, "GET", "/api/gateway")).json.url, simulator.url.replace("http", "ws"));
  t.like((await call(simulator, "GET", "/api/v10/users/@me")).json, { bot: true });
  t.is((await call(simulator, "GET", "/api/v10/applications/@me")).status, 200);
});

test("an interaction is answered once: 204, then 400 with 40060", async (t) => {
  const { simulator, client } = await connected(t);
  const interaction = await interact(simulator, client);
  t.is((await call(simulator, "POST", callbackPath(interaction), reply)).status, 204);
  const again = await call(simulator, "POST", callbackPath(interaction), reply);
  t.deepEqual([again.status, again.json.code], [400, 40060]);
  t.like(simulator.ledger().interactions, { sent: 1, answeredInTime: 1, never: 0, doubleAnswerAttempts: 1 });
  const echo = await client.receives("the answer", ({ t }) => t === "MESSAGE_CREATE");
  t.like(echo.d, { content: "42", type: 20, author: { bot: true } });
  const seen = await call(simulator, "GET", `/control/interactions/${interaction.id}`);
  t.like(seen.json, { state: "answered", answer: reply, message: { content: "42" } });
});

test("an answer past the time is 404 with 10062 and counted late, without one it counts never", async (t) => {
  const { simulator, client } = await connected(t, { interactionAnswerMs: 30 });
  const [slow] = [await interact(simulator, client), await interact(simulator, client)];
  await until("time is up", () => simulator.ledger().interactions.never === 2);
  const late = await call(simulator, "POST", callbackPath(slow), reply);
  t.deepEqual([late.status, late.json.code], [404, 10062]);
  t.like(simulator.ledger().interactions, { sent: 2, answeredInTime: 0, late: 1, never: 1, pending: 0 });
  const unknown = await call(simulator, "POST", callbackPath({ id: "1", token: "x" }), reply);
  t.deepEqual([unknown.status, unknown.json.code], [404, 10062]);
});

test("deferring, filling, editing, following up and deleting", async (t) => {
  const { simulator, client } = await connected(t);
  const interaction = await interact(simulator, client);
  const hook = `/api/v10/webhooks/${interaction.application_id}/${interaction.token}`;
  t.is((await call(simulator, "POST", hook, { content: "too early" })).json.code, 10015);
  const deferred = await call(simulator, "POST", `${callbackPath(interaction)}?with_response=true`, {
    type: 5,
  });
  t.like(deferred.json, { interaction: { response_message_loading: true }, resource: { type: 5 } });
  const filled = await call(simulator, "PATCH", `${hook}/messages/@original`, { content: "done" });
  t.like(filled.json, { content: "done", flags: 0 });
  await client.receives("the edit", ({ t, d }) => t === "MESSAGE_UPDATE" && d.content === "done");
  const more = await call(simulator, "POST", hook, { content: "more" });
  t.not(more.json.id, filled.json.id);
  t.is((await call(simulator, "GET", `${hook}/messages/${more.json.id}`)).json.content, "more");
  t.is((await call(simulator, "DELETE", `${hook}/messages/@original`)).status, 204);
  t.is((await call(simulator, "GET", `${hook}/messages/@original`)).json.code, 10008);
});

test("an interaction's token stops working after its time", async (t) => {
  const { simulator, client } = await connected(t, { interactionTokenMs: 1, interactionAnswerMs: 10_000 });
  const interaction = await interact(simulator, client);
  await call(simulator, "POST", callbackPath(interaction), reply);
  const hook = `/api/v10/webhooks/${interaction.application_id}/${interaction.token}`;
  const expired = await call(simulator, "PATCH", `${hook}/messages/@original`, { content: "x" });
  t.deepEqual([expired.status, expired.json.code], [401, 50027]);
});

test("answers that do not fit are 400 with 50035 and leave the interaction open", async (t) => {
  const { simulator, client } = await connected(t);
  const interaction = await interact(simulator, client);
  for (const body of [
    { type: 8, data: { choices: [] } },
    { type: 4, data: { content: "x".repeat(2_001) } },
    {},
  ]) {
    const { status, json } = await call(simulator, "POST", callbackPath(interaction), body);
    t.deepEqual([status, json.code], [400, 50035]);
  }
  t.is((await call(simulator, "POST", callbackPath(interaction), { type: 4, data: {} })).json.code, 50006);
  t.is((await call(simulator, "POST", callbackPath(interaction), reply)).status, 204);
});

test("an enforced nonce returns the message that is there; without enforce_nonce a second is made", async (t) => {
  const { simulator, channel, client } = await connected(t);
  const path = `/api/v10/channels/${channel}/messages`;
  const body = { content: "once", nonce: "abc", enforce_nonce: true };
  const first = await call(simulator, "POST", path, body);
  const second = await call(simulator, "POST", path, body);
  t.is(first.json.id, second.json.id);
  const other = await call(simulator, "POST", path, { ...body, enforce_nonce: false });
  t.not(other.json.id, first.json.id);
  await until("echoes", () => client.of("MESSAGE_CREATE").length === 2);
  t.deepEqual(simulator.ledger().botMessages, { created: 2, nonceDuplicates: 1 });
});

test("messages are checked, edited, read and deleted; unknown ones are 404", async (t) => {
  const { simulator, channel } = await connected(t);
  const path = `/api/v10/channels/${channel}/messages`;
  const long = await call(simulator, "POST", path, { content: "x".repeat(2_001) });
  t.like(long.json, { code: 50035, errors: { content: { _errors: [{ code: "BASE_TYPE_MAX_LENGTH" }] } } });
  t.is((await call(simulator, "POST", path, {})).json.code, 50006);
  const { json } = await call(simulator, "POST", path, { content: "a" });
  t.is((await call(simulator, "PATCH", `${path}/${json.id}`, { content: "b" })).json.content, "b");
  t.is((await call(simulator, "GET", `${path}/${json.id}`)).json.content, "b");
  t.is((await call(simulator, "DELETE", `${path}/${json.id}`)).status, 204);
  t.is((await call(simulator, "GET", `${path}/${json.id}`)).json.code, 10008);
  t.is((await call(simulator, "POST", "/api/v10/channels/1/messages", { content: "x" })).json.code, 10003);
});

test("the sixth message in a channel within 5 s is 429 with Discord's headers; other channels go on", async (t) => {
  const { simulator, channel, guild } = await connected(t);
  const path = `/api/v10/channels/${channel}/messages`;
  const replies = [];
  for (let n = 0; n < 6; n++) replies.push(await call(simulator, "POST", path, { content: `${n}` }));
  t.deepEqual(
    replies.map(({ status }) => status),
    [200, 200, 200, 200, 200, 429],
  );
  t.deepEqual(
    replies.map(({ headers }) => headers.get("x-ratelimit-remaining")),
    ["4", "3", "2", "1", "0", "0"],
  );
  const { headers, json } = replies[5]!;
  t.like(json, { message: "You are being rate limited.", global: false });
  t.true(json.retry_after > 0 && json.retry_after <= 5);
  t.is(headers.get("x-ratelimit-scope"), "user");
  t.truthy(headers.get("x-ratelimit-bucket"));
  const other = guild.channels.findLast((one: { type: number }) => one.type === 0).id;
  t.is((await call(simulator, "POST", `/api/v10/channels/${other}/messages`, { content: "x" })).status, 200);
});

test("the global limit hits every route but interaction callbacks", async (t) => {
  const { simulator, client, guild } = await connected(t, { globalRequestsPerSecond: 3 });
  const interaction = await interact(simulator, client);
  const paths = ["/users/@me", "/applications/@me", `/guilds/${guild.id}`, `/guilds/${guild.id}/roles`];
  const replies = [];
  for (const path of paths) replies.push(await call(simulator, "GET", `/api/v10${path}`));
  t.deepEqual(
    replies.map(({ status }) => status),
    [200, 200, 200, 429],
  );
  t.true(replies[3]!.json.global);
  t.is((await call(simulator, "POST", callbackPath(interaction), reply)).status, 204);
});

test("REST shows the same guilds, channels, roles and members as the gateway", async (t) => {
  const { simulator, guild } = await connected(t);
  const read = async (path: string) =>
    (await call(simulator, "GET", `/api/v10/guilds/${guild.id}${path}`)).json;
  t.deepEqual(
    (await read("/channels")).map((c: { id: string }) => c.id),
    guild.channels.map((c: { id: string }) => c.id),
  );
  t.deepEqual(await read("/roles"), guild.roles);
  t.is((await read("")).name, guild.name);
  const [member] = await read("/members?limit=1");
  t.deepEqual(await read(`/members/${member.user.id}`), member);
  t.is((await read("/members/1")).code, 10013);
});

test("registered commands are what users call, with values that fit their options", async (t) => {
  const { simulator, client, guild } = await connected(t);
  const me = (await call(simulator, "GET", "/api/v10/applications/@me")).json;
  const path = `/api/v10/applications/${me.id}/commands`;
  const level = {
    name: "level",
    description: "Shows a level",
    options: [
      { type: 6, name: "user", description: "Whose", required: true },
      { type: 4, name: "top", description: "How many", required: true, min_value: 3, max_value: 5 },
    ],
  };
  const bad = await call(simulator, "PUT", path, [{ ...level, name: "Has Spaces" }]);
  t.deepEqual([bad.status, bad.json.code], [400, 50035]);
  const put = await call(simulator, "PUT", path, [level]);
  t.is(put.status, 200);
  const same = await call(simulator, "PUT", path, [level]);
  t.is(same.json[0].id, put.json[0].id);
  simulator.setTraffic({ ratePerSecond: 2_000, running: true });
  await until("calls", () => client.of("INTERACTION_CREATE").length >= 20);
  simulator.setTraffic({ running: false });
  for (const { d } of client.of("INTERACTION_CREATE")) {
    t.is(d.data.name, "level");
    const [user, top] = d.data.options;
    t.true([3, 4, 5].includes(top.value));
    t.is(d.data.resolved.users[user.value].id, user.value);
  }
  t.is((await call(simulator, "GET", `${path}/${put.json[0].id}`)).json.name, "level");
  t.is((await call(simulator, "DELETE", `${path}/${put.json[0].id}`)).status, 204);
  const elsewhere = `/api/v10/applications/${me.id}/guilds/${guild.id}/commands`;
  t.is((await call(simulator, "POST", elsewhere, level)).status, 201);
});
