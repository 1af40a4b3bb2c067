/**
 * A worker as a process of its own, with what the command line has no flag for: Discord's identify interval, shortened as
 * the simulator's is. Arguments: id, shards, interval in ms; the rest comes as for the command, from the environment.
 */
import { pino } from "pino";
import { loadBot } from "../../src/bots/load.js";
import { connectNats } from "../../src/nats/connect.js";
import { runWorker } from "../../src/worker/worker.js";

const [id, shards, identifyIntervalMs] = process.argv.slice(2) as [string, string, string];
const { NATS_URL, DISCORD_API, DISCORD_TOKEN } = process.env as Record<string, string>;
const worker = await runWorker({
  id,
  nc: await connectNats({ url: NATS_URL!, name: id }),
  discordApi: DISCORD_API!,
  token: DISCORD_TOKEN!,
  bot: await loadBot("counting"),
  shards: Number(shards),
  memoryBytes: 100_000_000,
  version: "0",
  log: pino({ level: "info" }, pino.destination(2)),
  identifyIntervalMs: Number(identifyIntervalMs),
});
worker.failed.catch((error: unknown) => {
  process.stderr.write(`${error}\n`);
  process.exit(1);
});
