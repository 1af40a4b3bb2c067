/**
 * The measure for workers: a bare @discordjs/ws consumer that counts what it receives and keeps nothing. A process of
 * its own (argument: the number of shards), with the intents of the counting bot, so that both receive the same.
 */
import { REST } from "@discordjs/rest";
import { SimpleIdentifyThrottler, WebSocketManager, WebSocketShardEvents } from "@discordjs/ws";
import counting from "../../src/bots/counting.js";

const shardCount = Number(process.argv[2]);
const token = process.env.DISCORD_TOKEN!;
const rest = new REST({ api: process.env.DISCORD_API!, version: "10" }).setToken(token);

const manager = new WebSocketManager({
  token,
  intents: counting.intents,
  rest,
  shardCount,
  // The benches' simulator allows as many; the default would wait 5 s between two shards.
  buildIdentifyThrottler: () => new SimpleIdentifyThrottler(16),
});

let dispatches = 0;
let unavailable = 0;
let readyShards = 0;
let isReady = false;

manager.on(WebSocketShardEvents.Error, (error) => {
  process.stderr.write(`${error}\n`);
});
manager.on(WebSocketShardEvents.Ready, (data) => {
  readyShards += 1;
  unavailable += data.guilds.length;
});
manager.on(WebSocketShardEvents.Dispatch, (payload) => {
  dispatches += 1;
  if (isReady || payload.t !== "GUILD_CREATE") return;
  unavailable -= 1;
  if (readyShards < shardCount || unavailable > 0) return;
  isReady = true;
  process.send?.({ type: "ready" });
});

process.on("disconnect", () => process.exit(0));
process.on("SIGTERM", () => {
  process.stdout.write(`${dispatches} dispatches\n`);
  process.exit(0);
});

await manager.connect();
