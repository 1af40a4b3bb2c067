/**
 * Owns every flag of the command line: one definition each, with its environment variable, so that a flag means the
 * same in every command. A value that is not valid ends in a commander error, which commands.ts turns into exit code 2.
 *
 * The token is never a flag (`ps` would show it): it comes from DISCORD_TOKEN or from a file.
 */
import { InvalidArgumentError, Option } from "commander";
import { isMemberId } from "../core/ids.js";
import { limits } from "../core/limits.js";

export const logLevels = ["debug", "info", "warn", "error", "silent"] as const;
export type LogLevel = (typeof logLevels)[number];

export interface CommonOptions {
  nats?: string;
  data: string;
  discordApi?: string;
  tokenFile?: string;
  bot?: string;
  id?: string;
  shards: number | "auto";
  /** Of the streams; undefined: whatever they have. */
  replicas?: number;
  memoryMb: number;
  temporary: boolean;
  hotboot?: string;
  hotbootGc: number;
  logLevel: LogLevel;
  json: boolean;
}

export interface StartOptions extends CommonOptions {
  guilds: number;
  rate: number;
  duration?: number;
  workers: number;
  dbnodes: number;
  seed: number;
  reset: boolean;
}

export interface SimulatorOptions extends CommonOptions {
  guilds: number;
  rate: number;
  seed: number;
  port: number;
  host: string;
  maxConcurrency: number;
  paused: boolean;
}

export interface HotbootOptions extends CommonOptions {
  dryRun: boolean;
  abort: boolean;
}

export interface StatusOptions extends CommonOptions {
  check: boolean;
  watch: boolean;
}

const MiB = 1024 * 1024;

/** A fresh Option each time: commander keeps state in them. */
export const options = {
  nats: () =>
    new Option(
      "--nats <url>",
      "NATS server: nats://user:password@host:4222, several separated by commas",
    ).env("NATS_URL"),
  data: () =>
    new Option("--data <dir>", "folder for what is kept on disk").env("GUILDSTREAM_DATA").default(".data"),
  discordApi: () =>
    new Option("--discord-api <url>", "base URL of Discord's API, or of any server that speaks it")
      .env("DISCORD_API")
      .argParser(httpUrl),
  tokenFile: () =>
    new Option("--token-file <file>", "read the bot's token from this file instead of DISCORD_TOKEN").env(
      "DISCORD_TOKEN_FILE",
    ),
  bot: () =>
    new Option("--bot <file>", "the bot: a .ts or .js file, or a built-in one (counting, community)").env(
      "GUILDSTREAM_BOT",
    ),
  id: () =>
    new Option("--id <name>", "name of this process in the cluster; unique, and the same after a restart")
      .env("GUILDSTREAM_ID")
      .argParser(memberId),
  shards: () =>
    new Option("--shards <count>", "shards of the cluster; auto: as many as Discord recommends")
      .env("GUILDSTREAM_SHARDS")
      .default("auto" as const)
      .argParser(shardCount),
  replicas: () =>
    new Option(
      "--replicas <count>",
      "servers that hold each stream: 1, 3 or 5 (default: what the streams have, 1 for new ones)",
    )
      .env("GUILDSTREAM_REPLICAS")
      .argParser(replicaCount),
  memoryMb: () =>
    new Option(
      "--memory-mb <megabytes>",
      "what guilds may hold in a worker's memory: near it idle ones leave, at it dispatches wait",
    )
      .env("GUILDSTREAM_MEMORY_MB")
      .default(limits.memoryBudgetBytes / MiB)
      .argParser(wholeNumber(16, 1_048_576)),
  temporary: () =>
    new Option("--temporary", "when stopped, keep the shards reserved for this worker's return for a minute")
      .env("GUILDSTREAM_TEMPORARY")
      .default(false),
  hotboot: () =>
    new Option(
      "--hotboot <name>",
      "take over from the running worker of this id, instead of joining beside it",
    ).argParser(memberId),
  hotbootGc: () =>
    new Option(
      "--hotboot-gc <guilds>",
      "collect garbage each time so many guilds have moved to a successor; 0: never",
    )
      .env("GUILDSTREAM_HOTBOOT_GC")
      .default(0)
      .argParser(wholeNumber(0, 1_000_000)),
  dryRun: () => new Option("--dry-run", "boot the new code to ready, then take it down again").default(false),
  abort: () => new Option("--abort", "take everything back from a successor that is underway").default(false),
  /** Looked at in cli.ts, before anything is parsed. */
  noLauncher: () =>
    new Option("--no-launcher", "run in this process alone, without the small one that stays around it"),
  logLevel: () =>
    new Option("--log-level <level>", "how much is logged, to stderr")
      .env("GUILDSTREAM_LOG_LEVEL")
      .choices([...logLevels])
      .default("info"),
  json: () =>
    new Option("--json", "for programs: results as JSON on stdout, logs as JSON lines")
      .env("GUILDSTREAM_JSON")
      .default(false),
  guilds: () =>
    new Option("--guilds <count>", "guilds of the simulated Discord")
      .env("GUILDSTREAM_GUILDS")
      .default(2_500)
      .argParser(wholeNumber(1, 200_000)),
  rate: () =>
    new Option("--rate <per second>", "dispatches per second of the simulated Discord")
      .env("GUILDSTREAM_RATE")
      .default(200)
      .argParser(wholeNumber(0, 100_000)),
  seed: () =>
    new Option("--seed <number>", "what the simulated guilds and their traffic are made from")
      .env("GUILDSTREAM_SEED")
      .default(1)
      .argParser(wholeNumber(0, 4_294_967_295)),
  duration: () =>
    new Option("--duration <seconds>", "stop after so long, check, print the summary (default: until Ctrl-C)")
      .env("GUILDSTREAM_DURATION")
      .argParser(wholeNumber(1, 31_536_000)),
  workers: () =>
    new Option("--workers <count>", "worker processes")
      .env("GUILDSTREAM_WORKERS")
      .default(1)
      .argParser(wholeNumber(1, 64)),
  dbnodes: () =>
    new Option("--dbnodes <count>", "database node processes")
      .env("GUILDSTREAM_DBNODES")
      .default(2)
      .argParser(wholeNumber(1, 16)),
  reset: () => new Option("--reset", "delete what earlier runs have kept in the data folder").default(false),
  port: () =>
    new Option("--port <port>", "port to listen on; 0: a free one")
      .env("GUILDSTREAM_SIMULATOR_PORT")
      .default(8300)
      .argParser(wholeNumber(0, 65_535)),
  host: () =>
    new Option("--host <address>", "address to listen on")
      .env("GUILDSTREAM_SIMULATOR_HOST")
      .default("127.0.0.1"),
  maxConcurrency: () =>
    new Option("--max-concurrency <count>", "IDENTIFYs the simulated Discord allows at a time")
      .env("GUILDSTREAM_MAX_CONCURRENCY")
      .default(1)
      .argParser(wholeNumber(1, 1_000)),
  paused: () => new Option("--paused", "no traffic until POST /control/traffic").default(false),
  check: () =>
    new Option(
      "--check",
      "exit 0 only if the member named by --id is live and ready (for health checks)",
    ).default(false),
  watch: () =>
    new Option("--watch", "look again every second until Ctrl-C (a line now and then into a pipe)").default(
      false,
    ),
};

function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= least && value <= most) return value;
    throw new InvalidArgumentError(`It must be a whole number from ${least} to ${most}.`);
  };
}

function shardCount(text: string): number | "auto" {
  if (text === "auto") return "auto";
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= 1 && value <= 16_384) return value;
  throw new InvalidArgumentError("It must be auto, or a whole number from 1 to 16384.");
}

function replicaCount(text: string): number {
  if (/^[135]$/.test(text)) return Number(text);
  throw new InvalidArgumentError("It must be 1, 3 or 5.");
}

function httpUrl(text: string): string {
  if (URL.canParse(text) && /^https?:$/.test(new URL(text).protocol)) return text;
  throw new InvalidArgumentError("It must be a URL that begins with http:// or https://.");
}

function memberId(text: string): string {
  if (isMemberId(text)) return text;
  throw new InvalidArgumentError("It must be up to 64 letters, digits, - or _.");
}
