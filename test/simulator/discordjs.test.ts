/** The real @discordjs/ws and @discordjs/rest against the simulator. */
import { REST } from "@discordjs/rest";
import { CompressionMethod, type SessionInfo, WebSocketManager, WebSocketShardEvents } from "@discordjs/ws";
import test, { type ExecutionContext } from "ava";
import {
  type APIApplication,
  type GatewayDispatchPayload,
  type GatewayIntentBits,
  Routes,
} from "discord-api-types/v10";
import { type Simulator, type SimulatorOptions, startSimulator } from "../../src/simulator/index.js";
import { ALL_INTENTS, book, type Frame, until } from "./client.js";

async function start(t: ExecutionContext, options: SimulatorOptions = {}) {
  const simulator = await startSimulator({ guilds: 40, paused: true, ratePerSecond: 1_000, ...options });
  t.teardown(() => simulator.close());
  return simulator;
}

function connect(t: ExecutionContext, simulator: Simulator, compress: boolean, token = simulator.token) {
  const rest = new REST({ api: simulator.apiUrl, retries: 0 }).setToken(token);
  // By default all managers of a process share one store: tests that run at once would mix sessions.
  const sessions = new Map<number, SessionInfo>();
  const manager = new WebSocketManager({
    token,
    rest,
    intents: ALL_INTENTS as GatewayIntentBits,
    retrieveSessionInfo: (shard) => sessions.get(shard) ?? null,
    updateSessionInfo: (shard, session) => {
      if (session === null) sessions.delete(shard);
      else sessions.set(shard, session);
    },
    ...(compress && { compression: CompressionMethod.ZlibNative }),
  });
  t.teardown(() => manager.destroy());
  const frames: Frame[] = [];
  const errors: Error[] = [];
  const resumed: number[] = [];
  manager.on(WebSocketShardEvents.Dispatch, (payload: GatewayDispatchPayload) =>
    frames.push(payload as Frame),
  );
  manager.on(WebSocketShardEvents.Error, (error: Error) => errors.push(error));
  manager.on(WebSocketShardEvents.Resumed, (shard: number) => resumed.push(shard));
  const startup = async (guilds: number) => {
    await manager.connect();
    await until("guilds", () => frames.filter((frame) => frame.t === "GUILD_CREATE").length === guilds);
    return frames.length;
  };
  return { manager, rest, frames, errors, resumed, startup };
}

for (const compress of [false, true]) {
  test(`drops lose nothing with @discordjs/ws, ${compress ? "zlib-stream" : "plain"}`, async (t) => {
    const simulator = await start(t, { shards: 2, maxConcurrency: 2 });
    const { frames, resumed, errors, startup } = connect(t, simulator, compress);
    const startupFrames = await startup(40);
    simulator.setTraffic({ running: true });
    await until("traffic", () => frames.length > 500);
    simulator.fault({ kind: "drop" });
    await until("both resumed", () => resumed.length === 2);
    simulator.fault({ kind: "reconnect", shard: 1 });
    await until("resumed again", () => resumed.length === 3);
    simulator.setTraffic({ running: false });
    const { totals, guilds } = simulator.ledger();
    // Startup, what the ledger has, and three RESUMED.
    await until("everything", () => frames.length >= startupFrames + totals.dispatches + 3);
    t.deepEqual(book(frames.slice(startupFrames)), guilds);
    t.deepEqual(errors, []);
    t.like(simulator.stats(), { identifies: 2, resumes: 3 });
  });
}

test("an invalid session makes @discordjs/ws identify again", async (t) => {
  const simulator = await start(t, { identifyIntervalMs: 0 });
  const { frames, startup } = connect(t, simulator, false);
  await startup(40);
  simulator.fault({ kind: "invalidSession" });
  await until("a second READY", () => frames.filter((frame) => frame.t === "READY").length === 2);
  t.is(simulator.stats().identifies, 2);
});

test("destroying @discordjs/ws closes with 1000 and ends the session", async (t) => {
  const simulator = await start(t);
  const { manager, startup } = connect(t, simulator, false);
  await startup(40);
  await manager.destroy();
  await until("ended", () => simulator.stats().sessionsLost.closed === 1);
  t.is(simulator.stats().clientCloses["1000"], 1);
});

test("a wrong token is refused by REST and by the gateway", async (t) => {
  const simulator = await start(t);
  const { manager } = connect(t, simulator, false, "wrong");
  await t.throwsAsync(manager.connect(), { message: /401|Unauthorized/ });
});

test("@discordjs/rest waits out a bucket by the headers instead of running into 429", async (t) => {
  const simulator = await start(t);
  const { rest, startup, frames } = connect(t, simulator, false);
  await startup(40);
  const guild = frames.find((frame) => frame.t === "GUILD_CREATE")!.d;
  const channel = guild.channels.find((one: { type: number }) => one.type === 0).id;
  const sent = Array.from({ length: 7 }, (_, n) =>
    rest.post(Routes.channelMessages(channel), { body: { content: `${n}` } }),
  );
  await Promise.all(sent);
  t.is(simulator.ledger().botMessages.created, 7);
  t.is(simulator.stats().rateLimited, 0);
  const application = (await rest.get(Routes.currentApplication())) as APIApplication;
  await rest.put(Routes.applicationCommands(application.id), {
    body: [{ name: "hi", description: "Says hi" }],
  });
  await t.throwsAsync(rest.get(Routes.channel("1")), { message: "Unknown Channel" });
});

test("files are taken as forms", async (t) => {
  const simulator = await start(t);
  const { rest, startup, frames } = connect(t, simulator, false);
  await startup(40);
  const guild = frames.find((frame) => frame.t === "GUILD_CREATE")!.d;
  const channel = guild.channels.find((one: { type: number }) => one.type === 0).id;
  const message = (await rest.post(Routes.channelMessages(channel), {
    body: { content: "see" },
    files: [{ name: "a.txt", data: Buffer.from("hello") }],
  })) as { content: string; attachments: { filename: string; size: number }[] };
  t.is(message.content, "see");
  t.like(message.attachments[0], { filename: "a.txt", size: 5 });
});
