/**
 * Owns what the commands share: this package's version, the token, ids, the connection to NATS. Imports as little as
 * it can: every command loads this, and only its own role beside it.
 */
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import type { Logger } from "pino";
import { GuildstreamError, messageOf } from "../core/errors.js";
import { connectNats, type NatsConnection } from "../nats/connect.js";
import { packageRoot } from "../nats/definitions.js";
import type { CommonOptions } from "./options.js";

const defaultNats = "nats://127.0.0.1:4222";
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
