/** Owns `guildstream start` as a command: which Discord, which bot, signals, the summary, the exit code. */
import { fileURLToPath } from "node:url";
import { loadBot } from "../bots/load.js";
import { run } from "../ops/start/run.js";
import { renderSummary } from "../ops/start/summary.js";
import type { System } from "../ops/start/system.js";
import { missingToken } from "../worker/worker.js";
import { readToken, simulatorToken, version } from "./common.js";
import type { StartOptions } from "./options.js";
import { exitCodes } from "./report.js";
import { onStopRequest } from "./signals.js";

export async function start(options: StartOptions): Promise<number> {
  const token = readToken(options);
  if (token === undefined && options.discordApi !== undefined) throw missingToken();
  const bot = options.bot ?? (token === undefined ? "counting" : "community");
  // Loaded here for its name, and so that a bot that does not load is told of before anything is started.
  const { name: botName } = await loadBot(bot);
  let system: System | undefined;
  const stop = stopAtSignal(() => system);
  const summary = await run({
    cliPath: fileURLToPath(new URL("../cli.js", import.meta.url)),
    version,
    dataDir: options.data,
    reset: options.reset,
    natsUrl: options.nats,
    discord: token === undefined ? undefined : { api: options.discordApi, token },
    simulatorToken,
    bot,
    botName,
    guilds: options.guilds,
    rate: options.rate,
    seed: options.seed,
    durationS: options.duration,
    workers: options.workers,
    dbnodes: options.dbnodes,
    shards: options.shards,
    memoryMb: options.memoryMb,
    logLevel: options.logLevel,
    json: options.json,
    stop,
    onSystem: (started) => {
      system = started;
    },
  });
  if (summary === undefined) return exitCodes.interrupted;
  if (options.json) process.stderr.write(renderSummary(summary));
  process.stdout.write(options.json ? `${JSON.stringify(summary)}\n` : renderSummary(summary));
  return summary.problems.length === 0 ? exitCodes.ok : exitCodes.failed;
}

/** The first signal drains; the second leaves at once and takes every process along. */
function stopAtSignal(system: () => System | undefined): AbortSignal {
  const controller = new AbortController();
  onStopRequest((signal, isFirst) => {
    if (!isFirst) {
      system()?.kill();
      process.exit(exitCodes.interrupted);
    }
    process.stderr.write(`\n${signal}: draining (again: leave at once)\n`);
    controller.abort();
  });
  return controller.signal;
}
