/**
 * Owns the streams as they must be on the server: loads the JSON definitions in `streams/` and creates what is
 * missing. An existing stream is left as it is when it agrees on what matters, and refused by name when not:
 * a stream that drops old events, say, would lose guilds.
 */

import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { JetStreamManager, NatsConnection, StreamConfig } from "nats";
import { GuildstreamError, messageOf } from "../core/errors.js";
import { limits } from "../core/limits.js";
import { compareServerVersions } from "./server-version.js";

const definitionFiles = ["guilds.json", "handoff.json", "cluster.json"] as const;

/** What must hold in a stream that exists already; the rest is the operator's choice. */
const demanded = ["retention", "discard", "max_age", "allow_rollup_hdrs"] as const;

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

/**
 * Creates the streams and the list-server's bucket where they are missing.
 * @throws GuildstreamError STREAM_FAILED with what to do.
 */
export async function ensureStreams(nc: NatsConnection, options: { replicas?: number } = {}): Promise<void> {
  const replicas = options.replicas ?? 1;
  const version = nc.info!.version;
  if (replicas > 1 && compareServerVersions(version, limits.natsServerMinReplicasVersion) < 0) {
    throw new GuildstreamError(
      "NATS_SERVER_TOO_OLD",
      `${replicas} replicas need nats-server 2.11; this is ${version}`,
      {
        hint: "upgrade all servers, or keep one replica",
      },
    );
  }
  const manager = await nc.jetstreamManager({ timeout: limits.natsRequestTimeoutMs });
  for (const file of definitionFiles) {
    await ensureStream(manager, { ...(await definitionOf(file)), num_replicas: replicas });
  }
}

/** Creates the list-server's bucket where it is missing: it may be deleted while the cluster runs. */
export async function ensureBucket(nc: NatsConnection): Promise<void> {
  const manager = await nc.jetstreamManager({ timeout: limits.natsRequestTimeoutMs, checkAPI: false });
  await ensureStream(manager, await definitionOf("cluster.json"));
}

async function definitionOf(file: string): Promise<StreamConfig> {
  return JSON.parse(await readFile(join(packageRoot(), "streams", file), "utf8")) as StreamConfig;
}

async function ensureStream(manager: JetStreamManager, wanted: StreamConfig): Promise<void> {
  try {
    const existing = (await manager.streams.info(wanted.name)).config;
    for (const field of demanded) {
      if ((existing[field] || 0) === (wanted[field] || 0)) continue;
      throw new GuildstreamError(
        "STREAM_FAILED",
        `stream ${wanted.name} has ${field} ${JSON.stringify(existing[field])}, not ${JSON.stringify(wanted[field])}`,
        { hint: `nats stream edit ${wanted.name} --config streams/… (see streams/README.md)` },
      );
    }
    return;
  } catch (error) {
    if (error instanceof GuildstreamError) throw error;
    if (!/not found/i.test(messageOf(error))) throw streamFailed(wanted.name, error);
  }
  try {
    await manager.streams.add(wanted);
  } catch (error) {
    // Another member may have created it in between; the same configuration is no error to the server.
    if (!/already in use/i.test(messageOf(error))) throw streamFailed(wanted.name, error);
  }
}

function streamFailed(name: string, cause: unknown): GuildstreamError {
  return new GuildstreamError("STREAM_FAILED", `cannot create stream ${name}: ${messageOf(cause)}`, {
    cause,
    hint: "check the user's permissions and JetStream's storage limits on the NATS server",
  });
}
