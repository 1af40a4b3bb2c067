/**
 * Owns the question which nats-server program the embedded server runs, from compiled code.
 * The resolution itself lives in scripts/nats-server.mjs, because it must also run before anything is compiled; here
 * it is found by walking up to the package's root. Where the scripts are missing (a trimmed installation) only
 * NATS_SERVER and PATH are tried. Also owns comparing server versions, for whoever talks to one.
 */
import { execFile } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import type * as resolver from "../../scripts/nats-server.mjs";
import { GuildstreamError, messageOf } from "../core/errors.js";
import { limits } from "../core/limits.js";

const VERSION_ASK_TIMEOUT_MS = 5_000;

export interface NatsServerBinary {
  path: string;
  version: string;
  source: string;
}

/** Finds (or fetches) a nats-server; with `version` exactly that one. */
export async function resolveServerBinary(version?: string): Promise<NatsServerBinary> {
  const script = resolverPath();
  if (!script) return await withoutScripts(version);
  const { resolveNatsServer } = (await import(pathToFileURL(script).href)) as typeof resolver;
  try {
    return await resolveNatsServer({ version });
  } catch (error) {
    throw translate(error);
  }
}

/** Checks a program the caller named: it must run, be a nats-server, and be new enough. */
export async function checkServerBinary(path: string): Promise<NatsServerBinary> {
  let version: string;
  try {
    version = await askVersion(path);
  } catch (error) {
    throw new GuildstreamError(
      "NATS_SERVER_NOT_FOUND",
      `${path} cannot be run as a nats-server: ${messageOf(error)}`,
      {
        hint: "Name the nats-server program itself, or leave it out to have one found.",
        cause: error,
      },
    );
  }
  if (compareServerVersions(version, limits.natsServerMinVersion) < 0) {
    throw new GuildstreamError("NATS_SERVER_TOO_OLD", `${path} is nats-server ${version}`, {
      hint: `guildstream needs nats-server ${limits.natsServerMinVersion} or newer.`,
    });
  }
  return { path, version, source: "given" };
}

/** Negative, 0, positive. A pre-release counts as its release: what matters here is which features are there. */
export function compareServerVersions(a: string, b: string): number {
  const left = numbersOf(a);
  const right = numbersOf(b);
  for (let i = 0; i < 3; i++) {
    const difference = left[i]! - right[i]!;
    if (difference !== 0) return difference;
  }
  return 0;
}

function numbersOf(version: string): number[] {
  const match = /^v?(\d+)\.(\d+)\.(\d+)/.exec(version);
  if (!match)
    throw new GuildstreamError("NATS_SERVER_TOO_OLD", `${JSON.stringify(version)} is no server version`);
  return match.slice(1).map(Number);
}

/** The folder of the nearest package.json that is ours. */
function resolverPath(): string | undefined {
  for (let folder = dirname(fileURLToPath(import.meta.url)); ; folder = dirname(folder)) {
    const manifest = join(folder, "package.json");
    if (existsSync(manifest) && JSON.parse(readFileSync(manifest, "utf8")).name === "guildstream") {
      const script = join(folder, "scripts", "nats-server.mjs");
      return existsSync(script) ? script : undefined;
    }
    if (dirname(folder) === folder) return undefined;
  }
}

async function withoutScripts(version: string | undefined): Promise<NatsServerBinary> {
  const given = process.env.NATS_SERVER;
  if (given) return await checkServerBinary(given);
  for (const folder of (process.env.PATH ?? "").split(delimiter)) {
    const path = join(folder, process.platform === "win32" ? "nats-server.exe" : "nats-server");
    if (folder === "" || !existsSync(path)) continue;
    const found = await checkServerBinary(path).catch(() => undefined);
    if (found && (version === undefined || found.version === version)) return { ...found, source: "PATH" };
  }
  throw new GuildstreamError(
    "NATS_SERVER_NOT_FOUND",
    `there is no nats-server ${version ?? "2.10 or newer"} in PATH`,
    {
      hint: "Install nats-server, or name one: NATS_SERVER=/path/to/nats-server",
    },
  );
}

function askVersion(path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(path, ["--version"], { timeout: VERSION_ASK_TIMEOUT_MS }, (error, stdout) => {
      const version = /v?(\d+\.\d+\.\d+(?:-[\w.]+)?)/.exec(stdout)?.[1];
      if (!error && version) resolve(version);
      else reject(error ?? new Error(`it said ${JSON.stringify(stdout.slice(0, 80))}`));
    });
  });
}

/** The scripts know nothing of our error class; their codes are ours. */
function translate(error: unknown): unknown {
  if (!(error instanceof Error) || !("code" in error)) return error;
  if (error.code !== "NATS_SERVER_NOT_FOUND" && error.code !== "NATS_SERVER_TOO_OLD") return error;
  const hint = "hint" in error && typeof error.hint === "string" ? { hint: error.hint } : {};
  return new GuildstreamError(error.code, error.message, { cause: error, ...hint });
}
