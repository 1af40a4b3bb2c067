/**
 * Owns the streams as they must be on the server: loads the JSON definitions in `streams/` and creates what is
 * missing. An existing stream is left as it is when it agrees on what matters, and refused by name when not:
 * a stream that drops old events, say, would lose guilds.
 */

import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  ErrorCode,
  type JetStreamManager,
  type NatsConnection,
  type NatsError,
  type StreamConfig,
} from "nats";
import { GuildstreamError, messageOf } from "../core/errors.js";
import { limits } from "../core/limits.js";
import { guildsStream } from "../core/subjects.js";
import { readServerInfo, type ServerInfo } from "./embedded-probe.js";
import { apiErrorCode, askPatiently, noSuitablePeers } from "./jetstream.js";
import { compareServerVersions } from "./server-version.js";

const definitionFiles = ["guilds.json", "handoff.json", "cluster.json"] as const;

/** What must hold in a stream that exists already; the rest is the operator's choice. */
const demanded = ["retention", "discard", "max_age", "allow_rollup_hdrs"] as const;

/** "replicas > 1 not supported in non-clustered mode". */
const notClustered = 10074;

/** The folder that holds package.json, from wherever the compiled code lies. */
export function packageRoot(from = dirname(fileURLToPath(import.meta.url))): string {
  let folder = from;
  while (!existsSync(join(folder, "package.json"))) {
    const parent = dirname(folder);
    if (parent === folder) throw new GuildstreamError("CONFIG_INVALID", `no package.json above ${from}`);
    folder = parent;
  }
  return folder;
}

export interface EnsureOptions {
  /** Of each stream. Default: 1 for a new one, and for one that exists what it has. */
  replicas?: number | undefined;
}

/**
 * Creates the streams and the list-server's bucket where they are missing, and raises their replicas where they have
 * fewer than asked for. It never lowers them.
 * @throws GuildstreamError STREAM_FAILED, NATS_SERVER_TOO_OLD with what to do.
 */
export async function ensureStreams(nc: NatsConnection, options: EnsureOptions = {}): Promise<void> {
  const replicas = options.replicas ?? 1;
  if (replicas > 1) await refuseOldServers(nc, replicas);
  const manager = await nc.jetstreamManager({ timeout: limits.natsRequestTimeoutMs, checkAPI: false });
  for (const file of definitionFiles) {
    const wanted = { ...(await definitionOf(file)), num_replicas: replicas };
    const existing = await askPatiently(nc, () => existingConfig(manager, wanted.name));
    if (existing === undefined) {
      await askPatiently(nc, () => addStream(manager, wanted)).catch((error) => {
        throw streamFailed(`cannot create stream ${wanted.name}`, wanted, error);
      });
      continue;
    }
    refuseDifferent(existing, wanted);
    if (existing.num_replicas >= replicas) continue;
    await askPatiently(nc, () => manager.streams.update(wanted.name, { num_replicas: replicas })).catch(
      (error) => {
        const has = `stream ${wanted.name} has ${existing.num_replicas} of ${replicas} replicas`;
        throw streamFailed(`${has}, and cannot be raised`, wanted, error);
      },
    );
  }
}

/** Creates the list-server's bucket where it is missing: it may be deleted while the cluster runs. */
export function ensureBucket(nc: NatsConnection): Promise<void> {
  return ensureAgain(nc, "cluster.json");
}

/** Creates the stream of handoffs where it is missing: it is in memory, and its server may have restarted. */
export function ensureHandoff(nc: NatsConnection): Promise<void> {
  return ensureAgain(nc, "handoff.json");
}

/** With as many replicas as the guild log has. */
async function ensureAgain(nc: NatsConnection, file: string): Promise<void> {
  const manager = await nc.jetstreamManager({ timeout: limits.natsRequestTimeoutMs, checkAPI: false });
  const wanted = await definitionOf(file);
  if ((await existingConfig(manager, wanted.name)) !== undefined) return;
  const log = await existingConfig(manager, guildsStream);
  await addStream(manager, { ...wanted, num_replicas: log?.num_replicas ?? 1 });
}

async function definitionOf(file: string): Promise<StreamConfig> {
  return JSON.parse(await readFile(join(packageRoot(), "streams", file), "utf8")) as StreamConfig;
}

/** Below 2.11 the fence has holes once a stream is replicated; one old server in the cluster is enough. */
async function refuseOldServers(nc: NatsConnection, replicas: number): Promise<void> {
  const own = nc.info!;
  const others = await Promise.all((own.connect_urls ?? []).map(greeting));
  for (const server of [own, ...others]) {
    if (server === undefined) continue; // It cannot be reached from here; the one we are connected to can.
    if (compareServerVersions(server.version, limits.natsServerMinReplicasVersion) >= 0) continue;
    throw new GuildstreamError(
      "NATS_SERVER_TOO_OLD",
      `${replicas} replicas need nats-server 2.11 or newer; ${server.server_name} is ${server.version}`,
      { hint: "upgrade all servers of the cluster, or keep one replica (leave --replicas out)" },
    );
  }
}

function greeting(address: string): Promise<ServerInfo | undefined> {
  const colon = address.lastIndexOf(":");
  const host = address.slice(0, colon).replace(/^\[|\]$/g, "");
  return readServerInfo(host, Number(address.slice(colon + 1)), limits.natsGreetingTimeoutMs);
}

async function existingConfig(manager: JetStreamManager, name: string): Promise<StreamConfig | undefined> {
  try {
    return (await manager.streams.info(name)).config;
  } catch (error) {
    if (/not found/i.test(messageOf(error))) return undefined;
    throw error;
  }
}

async function addStream(manager: JetStreamManager, wanted: StreamConfig): Promise<void> {
  try {
    await manager.streams.add(wanted);
  } catch (error) {
    // Another member may have created it in between; the same configuration is no error to the server.
    if (!/already in use/i.test(messageOf(error))) throw error;
  }
}

function refuseDifferent(existing: StreamConfig, wanted: StreamConfig): void {
  for (const field of demanded) {
    if ((existing[field] || 0) === (wanted[field] || 0)) continue;
    // How long a message may wait is a demand only where it must wait for ever.
    if (field === "max_age" && wanted.max_age !== 0) continue;
    throw new GuildstreamError(
      "STREAM_FAILED",
      `stream ${wanted.name} has ${field} ${JSON.stringify(existing[field])}, not ${JSON.stringify(wanted[field])}`,
      { hint: `nats stream edit ${wanted.name} --config streams/… (see streams/README.md)` },
    );
  }
}

function streamFailed(what: string, wanted: StreamConfig, cause: unknown): GuildstreamError {
  const { name, num_replicas: replicas } = wanted;
  let hint = "check the user's permissions and JetStream's storage limits on the NATS server";
  const code = apiErrorCode(cause);
  if (code === notClustered || code === noSuitablePeers) {
    hint =
      `${replicas} replicas need a cluster of at least ${replicas} nats-servers with JetStream and room on each ` +
      "(streams/README.md shows how to start one), or leave --replicas out";
  } else if ((cause as NatsError).code === ErrorCode.PermissionsViolation) {
    hint =
      `this user may not: run \`guildstream status --replicas ${replicas}\` once as one who may (setup in ` +
      `streams/nats-server.conf), or \`nats stream edit ${name} --replicas ${replicas}\` (streams/README.md)`;
  }
  return new GuildstreamError("STREAM_FAILED", `${what}: ${messageOf(cause)}`, { cause, hint });
}
