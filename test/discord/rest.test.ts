import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import test, { type ExecutionContext } from "ava";
import type { Effect } from "../../src/core/event.js";
import { limits } from "../../src/core/limits.js";
import { hasSameCommands } from "../../src/discord/commands.js";
import { answerBody } from "../../src/discord/dispatch.js";
import { sendEffect } from "../../src/discord/effects.js";
import { createRest, RestError } from "../../src/discord/rest.js";
import { Shard } from "../../src/discord/shard.js";
import type { Simulator } from "../../src/simulator/index.js";
import { quiet, simulate, until } from "./probe.js";

const ping = { name: "ping", description: "Pong" };

async function control(simulator: Simulator, path: string, body: object): Promise<Record<string, unknown>> {
  const response = await fetch(`${simulator.url}/control/${path}`, {
    method: "POST",
    body: JSON.stringify(body),
  });
  return (await response.json()) as Record<string, unknown>;
}

test("gateway, user and application are answered; the gateway's URL is asked for once", async (t) => {
  const { simulator, rest } = await simulate(t);
  const gateway = await rest.gatewayBot();
  t.true(gateway.shards >= 1 && gateway.session_start_limit.remaining > 0);
  const [first, second] = [rest.gatewayUrl(), rest.gatewayUrl()];
  t.is(first, second);
  t.is(await first, gateway.url);
  t.is(typeof (await rest.currentUser()).username, "string");
  t.is((await rest.application()).id, "1000000000000000000");
  t.truthy(simulator);
});

test("what is left of the day has its reset by Discord's clock, whatever this machine's says", async (t) => {
  const discordNow = Date.parse("2030-01-01T00:00:00Z");
  const limit = { total: 1_000, remaining: 7, reset_after: 3_000, max_concurrency: 16 };
  const server = createServer((_request, response) => {
    response.setHeader("date", new Date(discordNow).toUTCString());
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ url: "ws://gateway", shards: 1, session_start_limit: limit }));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.teardown(() => server.close());
  const apiUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}/api`;
  const rest = createRest({ token: "t", apiUrl, log: quiet });
  t.teardown(() => rest.close());
  t.deepEqual(await rest.sessionStartLimit(), {
    total: 1_000,
    remaining: 7,
    resetAfterMs: 3_000,
    resetAt: discordNow + 3_000,
    maxConcurrency: 16,
  });
});

test("a wrong token is named, with what to do; no further request leaves with it", async (t) => {
  const { simulator } = await simulate(t);
  const rest = createRest({ token: "wrong-secret", apiUrl: simulator.apiUrl, log: quiet });
  t.teardown(() => rest.close());
  const error = await t.throwsAsync(rest.currentUser());
  t.like(error, { code: "DISCORD_TOKEN_INVALID" });
  t.regex((error as unknown as { hint: string }).hint, /DISCORD_TOKEN/);
  t.false(JSON.stringify(error).includes("wrong-secret"));
  t.is(await t.throwsAsync(rest.gatewayBot()), error);
});

test("a Discord that is not there is named, with its address", async (t) => {
  const rest = createRest({ token: "t", apiUrl: "http://127.0.0.1:9/api", log: quiet });
  t.teardown(() => rest.close());
  const error = await t.throwsAsync(rest.currentUser(), { message: /127\.0\.0\.1:9\/api.*ECONNREFUSED/ });
  t.like(error, { code: "DISCORD_UNREACHABLE" });
});

test("reads survive a server that fails twice; what Discord refuses is not asked again", async (t) => {
  const { simulator, rest } = await simulate(t);
  simulator.fault({ kind: "restFailure", status: 503, count: limits.effectAttemptsMax - 1 });
  t.is(typeof (await rest.currentUser()).id, "string");
  const error = await t.throwsAsync(rest.client.get("/channels/1/messages"), { instanceOf: RestError });
  t.true((error as RestError).status >= 400 && (error as RestError).status < 500);
});

test("commands are registered once, and again when something about them changed", async (t) => {
  const { rest } = await simulate(t);
  t.is(await rest.registerCommands([ping]), "registered");
  t.is(await rest.registerCommands([ping]), "unchanged");
  const changed = { ...ping, options: [{ type: 3, name: "text", description: "What" }] };
  t.is(await rest.registerCommands([changed] as never), "registered");
  t.is(await rest.registerCommands([changed] as never), "unchanged");
  t.is(await rest.registerCommands([ping]), "registered");
  t.is(await rest.registerCommands([]), "registered");
  t.is(await rest.registerCommands([]), "unchanged");
});

test("what Discord adds by itself is no change; a field taken away is one", (t) => {
  const at = { id: "1", version: "2", type: 1, nsfw: false, default_member_permissions: null, ...ping };
  t.true(hasSameCommands([at], [ping]));
  t.true(hasSameCommands([{ ...at, options: [] }], [ping]));
  t.false(hasSameCommands([{ ...at, options: [{ type: 3 }] }], [ping]));
  t.false(hasSameCommands([at, at], [ping]));
  t.false(hasSameCommands([{ ...at, description: "Ping" }], [ping]));
  t.false(hasSameCommands("nonsense", [ping]));
});

/** A connected bot that was asked `/ping`, and the effects that answer it. */
async function ask(t: ExecutionContext) {
  const { simulator, rest } = await simulate(t);
  await rest.registerCommands([ping]);
  let asked: { id: string; token: string; application_id: string; channel_id: string } | undefined;
  let isReady = false;
  const shard = new Shard({
    shardId: 0,
    shardCount: 1,
    intents: 1,
    token: simulator.token,
    rest,
    session: null,
    throttler: { waitForIdentify: async () => {} },
    onDispatch: (payload) => {
      if (payload.t === "INTERACTION_CREATE") asked = payload.d as never;
      return true;
    },
    onSession: (event) => {
      isReady ||= event.kind === "ready";
    },
    onFatal: t.log,
    log: quiet,
  });
  t.teardown(() => shard.close({ resumable: true }));
  shard.connect();
  await until(() => isReady);
  await control(simulator, "interaction", { guildId: simulator.guildIds[0], name: "ping" });
  await until(() => asked !== undefined);
  const { id, token, application_id: applicationId, channel_id: channelId } = asked!;
  const at = Date.now();
  const answer: Effect = { kind: "answer", interactionId: id, token, at, body: answerBody("pong") };
  const followUp: Effect = {
    kind: "followUp",
    applicationId,
    interactionId: id,
    token,
    at,
    body: { content: "and pong" },
  };
  return { simulator, rest, answer, followUp, channelId };
}

test("an answer is sent once: the second time Discord says so", async (t) => {
  const { rest, answer, followUp } = await ask(t);
  t.is(await sendEffect(rest, answer), "sent");
  t.is(await sendEffect(rest, answer), "already");
  t.is(await sendEffect(rest, followUp), "sent");
});

test("an answer past its time is not sent; one to an interaction nobody knows is late, too", async (t) => {
  const { simulator, rest, answer } = await ask(t);
  const late = { ...answer, at: Date.now() - limits.interactionAnswerMs - 1 } as Effect;
  t.is(await sendEffect(rest, late), "late");
  t.is(simulator.ledger().interactions.answeredInTime, 0);
  const unknown = { ...answer, interactionId: "123456789012345678" } as Effect;
  t.is(await sendEffect(rest, unknown), "late");
  const oldFollowUp = {
    kind: "followUp",
    applicationId: "1",
    interactionId: "1",
    token: "x",
    at: 0,
    body: {},
  } as const;
  t.is(await sendEffect(rest, oldFollowUp), "late");
});

test("an answer survives a server that fails for a moment", async (t) => {
  const { simulator, rest, answer } = await ask(t);
  simulator.fault({ kind: "restFailure", status: 502, count: limits.effectAttemptsMax - 1 });
  t.is(await sendEffect(rest, answer), "sent");
});

test("a message that is sent again is kept once, by its nonce", async (t) => {
  const { simulator, rest, channelId } = await ask(t);
  const effect: Effect = { kind: "message", channelId, nonce: "n-1", body: { content: "hello" } };
  t.is(await sendEffect(rest, effect), "sent");
  t.is(await sendEffect(rest, effect), "sent");
  t.like(simulator.ledger().botMessages, { created: 1, nonceDuplicates: 1 });
});

test("what Discord refuses has failed, and the log has neither token nor URL", async (t) => {
  const lines: string[] = [];
  const { simulator } = await simulate(t);
  const log = {
    ...quiet,
    error: (fields: object, message?: string) => lines.push(JSON.stringify([fields, message])),
  };
  const rest = createRest({ token: simulator.token, apiUrl: simulator.apiUrl, log: log as never });
  t.teardown(() => rest.close());
  t.is(
    await sendEffect(rest, { kind: "message", channelId: "1", nonce: "n", body: { content: "x" } }),
    "failed",
  );
  simulator.fault({ kind: "restFailure", status: 500, count: limits.effectAttemptsMax });
  const answer: Effect = { kind: "answer", interactionId: "1", token: "secret", at: Date.now(), body: {} };
  t.is(await sendEffect(rest, answer), "failed");
  t.is(lines.length, 2);
  t.false(lines.join().includes("secret"));
  t.false(lines.join().includes(simulator.token));
});

test("answers do not wait for each other, and share connections", async (t) => {
  let [open, most, sockets] = [0, 0, 0];
  const waiting: (() => void)[] = [];
  const server = createServer((request, response) => {
    request.resume();
    open += 1;
    most = Math.max(most, open);
    waiting.push(() => {
      open -= 1;
      response.writeHead(204).end();
    });
    if (waiting.length === 20) for (const finish of waiting.splice(0)) finish();
  });
  server.on("connection", () => {
    sockets += 1;
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const apiUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}/api`;
  const rest = createRest({ token: "t", apiUrl, log: quiet });
  t.teardown(() => {
    rest.close();
    server.closeAllConnections();
    server.close();
  });
  const batch = () =>
    Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        sendEffect(rest, { kind: "answer", interactionId: `${index}`, token: "x", at: Date.now(), body: {} }),
      ),
    );
  for (let round = 0; round < 3; round += 1) t.deepEqual(new Set(await batch()), new Set(["sent"]));
  t.is(most, 20);
  t.true(sockets < 60, `${sockets} connections for 60 answers, 20 at a time`);
});
