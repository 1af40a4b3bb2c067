/**
 * Owns the wiring of each role that runs alone or under `guildstream start`: connect, run, announce, drain.
 *
 * Each function boots its role and resolves once it is ready, or rejects with a GuildstreamError and leaves nothing
 * running. Called by cli.ts.
 */
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import type { Logger } from "pino";
import { loadBot } from "../bots/load.js";
import { ClusterList } from "../cluster/list.js";
import { GuildstreamError, messageOf } from "../core/errors.js";
import { limits } from "../core/limits.js";
import type { DbnodeEntry } from "../core/members.js";
import { clusterKeys } from "../core/subjects.js";
import { runDbnode } from "../dbnode/dbnode.js";
import { connectNats, type NatsConnection } from "../nats/connect.js";
import { ensureStreams, packageRoot } from "../nats/definitions.js";
import { startSimulator } from "../simulator/index.js";
import { missingToken, runWorker } from "../worker/worker.js";
import type { Role } from "./lifetime.js";
import { aborted, supervisorGone } from "./lifetime.js";
import type { CommonOptions, SimulatorOptions } from "./options.js";

const MiB = 1024 * 1024;
const workersPollMs = 50;
const defaultNats = "nats://127.0.0.1:4222";
const discord = "https://discord.com/api";
/** The only token the simulated Discord takes. */
export const simulatorToken = "simulator-token";

export const version: string = (
  JSON.parse(readFileSync(join(packageRoot(), "package.json"), "utf8")) as { version: string }
).version;

/** What booting a role needs beside its options. */
export interface Boot {
  log: Logger;
  stop: AbortSignal;
}

/** The token from the environment or the token file; never from a flag. */
export function readToken(options: Pick<CommonOptions, "tokenFile">): string | undefined {
  if (options.tokenFile === undefined) return process.env.DISCORD_TOKEN?.trim() || undefined;
  try {
    return readFileSync(options.tokenFile, "utf8").trim() || undefined;
  } catch (cause) {
    throw new GuildstreamError("CONFIG_INVALID", `cannot read the token file: ${messageOf(cause)}`, {
      cause,
      hint: "name a file that holds the bot's token and nothing else (--token-file, DISCORD_TOKEN_FILE)",
    });
  }
}

/** This host's own id where none was given; the same after a restart. */
export function defaultId(kind: "worker" | "dbnode"): string {
  const host = hostname()
    .replace(/[^A-Za-z0-9]+/g, "-")
    .slice(0, 40);
  return `${kind}-${host.replace(/^-|-$/g, "") || "1"}`;
}

export function connect(options: Pick<CommonOptions, "nats">, name: string): Promise<NatsConnection> {
  return connectNats({ url: options.nats ?? defaultNats, name });
}

export async function bootWorker(options: CommonOptions, boot: Boot): Promise<Role> {
  const id = options.id ?? defaultId("worker");
  const token = readToken(options);
  if (token === undefined) throw missingToken();
  const bot = await loadBot(options.bot ?? "community");
  const nc = await connect(options, `guildstream ${id}`);
  try {
    await ensureStreams(nc);
    const worker = await runWorker({
      id,
      nc,
      bot,
      token,
      discordApi: options.discordApi ?? discord,
      shards: options.shards,
      memoryBytes: options.memoryMb * MiB,
      version,
      log: boot.log,
    });
    const stop = async (): Promise<void> => {
      await worker.stop();
      await nc.close();
    };
    try {
      await Promise.race([worker.ready, worker.failed, aborted(boot.stop)]);
    } catch (error) {
      await stop();
      throw error;
    }
    return { stop, failed: worker.failed };
  } catch (error) {
    await nc.close();
    throw error;
  }
}

export async function bootDbnode(options: CommonOptions, boot: Boot): Promise<Role> {
  const id = options.id ?? defaultId("dbnode");
  const nc = await connect(options, `guildstream ${id}`);
  try {
    await ensureStreams(nc);
    const node = await runDbnode({ id, nc, dataDir: join(options.data, id), log: boot.log });
    const list = await ClusterList.open(nc, boot.log);
    // Until it has what the log held at its start, others should not ask it nor wait for it.
    const target = node.status().streamLast;
    let status: DbnodeEntry["status"] = "booting";
    const incarnation = `${Date.now().toString(36)}${randomBytes(4).toString("hex")}`;
    const entry = (): DbnodeEntry => {
      const own = node.status();
      if (status === "booting" && own.saved >= target) status = "ready";
      return {
        id,
        incarnation,
        status,
        version,
        host: hostname(),
        pid: process.pid,
        at: Date.now(),
        rssBytes: process.memoryUsage.rss(),
        ...own,
      };
    };
    const stop = async (): Promise<void> => {
      // With a supervisor the workers go first; without it they still need somebody to save what they hold.
      if (boot.stop.reason === supervisorGone) await workersGone(list);
      status = "draining";
      await list.beat();
      await node.stop();
      await list.leave();
      list.stop();
      await nc.close();
      boot.log.info({ event: "dbnode_stopped", saved: node.status().saved }, "drained");
    };
    try {
      await list.announce(clusterKeys.dbnode(id), entry);
      await Promise.race([caughtUp(() => node.status().saved >= target), node.failed, aborted(boot.stop)]);
      await list.beat();
    } catch (error) {
      await stop();
      throw error;
    }
    return { stop, failed: node.failed };
  } catch (error) {
    await nc.close();
    throw error;
  }
}

export async function bootSimulator(
  options: SimulatorOptions,
  boot: Boot,
): Promise<Role & { apiUrl: string; token: string }> {
  const simulator = await startSimulator({
    token: simulatorToken,
    port: options.port,
    host: options.host,
    guilds: options.guilds,
    ratePerSecond: options.rate,
    seed: options.seed,
    maxConcurrency: options.maxConcurrency,
    paused: options.paused,
    ...(options.shards === "auto" ? {} : { shards: options.shards }),
  }).catch((cause: NodeJS.ErrnoException) => {
    throw new GuildstreamError("CONFIG_INVALID", `the simulator cannot start: ${messageOf(cause)}`, {
      cause,
      hint: cause.code === "EADDRINUSE" ? "choose another --port; 0 takes a free one" : "see --help",
    });
  });
  const { url, apiUrl, token } = simulator;
  boot.log.info(
    { event: "simulator_runs", url, guilds: options.guilds, seed: options.seed },
    "simulated Discord runs",
  );
  return { apiUrl, token, stop: () => simulator.close() };
}

async function workersGone(list: ClusterList): Promise<void> {
  const deadlineAt = performance.now() + limits.drainTimeoutMs;
  while ([...list.workers().values()].some((worker) => worker.live) && performance.now() < deadlineAt) {
    await new Promise((resolve) => setTimeout(resolve, workersPollMs));
  }
}

function caughtUp(holds: () => boolean): Promise<void> {
  return new Promise((resolve) => {
    const timer = setInterval(() => {
      if (!holds()) return;
      clearInterval(timer);
      resolve();
    }, 10);
  });
}
