#!/usr/bin/env node
/**
 * Owns the question "which nats-server do we run?". The steps, in order; the first that succeeds answers:
 *   1. NATS_SERVER, a path: taken at its word, so a wrong one is an error and not a reason to look further;
 *   2. PATH, when new enough;
 *   3. the project's cache, when its content matches the checksum recorded at installation;
 *   4. the official release archive for this system and processor;
 *   5. a Debian package, unpacked without root;
 *   6. an older version in the cache; then a clear error.
 * A version asked for (option, `--version`, GUILDSTREAM_NATS_VERSION) means exactly that one in every step.
 * Invariant: nothing appears in the cache that was not complete, checked and run once (nats-server/cache.mjs).
 * Used by setup.mjs, the embedded server (src/nats/embedded.ts), and by hand: it prints the path on stdout.
 * Node builtins only: it runs before anything is installed.
 */
import { constants } from "node:fs";
import { access } from "node:fs/promises";
import { delimiter, dirname, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { cachedVersions, installCached, readCached, withCacheLock } from "./nats-server/cache.mjs";
import { fetchDebian, hasApt } from "./nats-server/debian.mjs";
import { createReporter } from "./nats-server/progress.mjs";
import { fetchRelease } from "./nats-server/release.mjs";
import { binaryName, RELEASE_VERSION } from "./nats-server/releases.mjs";
import {
  binaryVersion,
  compareVersions,
  isNewEnough,
  isVersion,
  NatsServerError,
} from "./nats-server/versions.mjs";

export { NatsServerError } from "./nats-server/versions.mjs";

const PROJECT_DIR = dirname(dirname(fileURLToPath(import.meta.url)));

const INSTALL_HINT = [
  "Install nats-server 2.10 or newer and try again:",
  "  Debian, Ubuntu   apt-get install nats-server   (Debian 13 or newer)",
  "  macOS            brew install nats-server",
  "  Windows          winget install NATSAuthors.NATSServer, or choco install nats-server",
  "  any system       https://github.com/nats-io/nats-server/releases",
  "or name one that is there: NATS_SERVER=/path/to/nats-server",
].join("\n");

/** See nats-server.d.mts for the types. */
export async function resolveNatsServer(options = {}) {
  const { env = process.env, reporter = createReporter(), release = {}, debian = {} } = options;
  const cacheDir = resolve(
    options.cacheDir ?? env.GUILDSTREAM_CACHE_DIR ?? join(PROJECT_DIR, ".cache", "nats-server"),
  );
  const version = wantedVersion(options.version ?? (env.GUILDSTREAM_NATS_VERSION || undefined));
  /** Why the steps so far gave nothing: said only when it comes to fetching, and in the final error. */
  const notes = [];

  const installed =
    (await fromVariable(env, version, notes)) ??
    (await fromPath(env, version, notes)) ??
    (await fromCache(cacheDir, version, notes));
  if (installed) return installed;

  for (const note of notes) reporter.line(`nats-server: ${note}`);
  return await withCacheLock(
    cacheDir,
    async () => {
      // Another process may have fetched it while we waited for the lock.
      const meanwhile = await fromCache(cacheDir, version, []);
      if (meanwhile) return meanwhile;
      const steps = [];
      if (release !== false) {
        const baseUrl = env.GUILDSTREAM_NATS_RELEASE_URL || undefined;
        steps.push(["release archive", () => fetchRelease({ version, baseUrl, ...release }, reporter)]);
      }
      if (debian !== false && process.platform === "linux" && (await hasApt())) {
        steps.push(["Debian package", () => fetchDebian({ version, cacheDir, ...debian }, reporter)]);
      }
      for (const [name, fetchBinary] of steps) {
        try {
          const found = await fetchBinary();
          const path = await installCached(cacheDir, found);
          reporter.line(`nats-server ${found.version}: ready (${path})`);
          return { path, version: found.version, source: found.source };
        } catch (error) {
          notes.push(`${name}: ${error.message}`);
          reporter.line(`nats-server: no ${name}: ${error.message}`);
        }
      }
      const older = version ? undefined : await fromCache(cacheDir, undefined, [], "0.0.0");
      if (older) return older;
      const what = version ? `nats-server ${version}` : "a nats-server 2.10 or newer";
      throw new NatsServerError(
        "NATS_SERVER_NOT_FOUND",
        `could not find or fetch ${what}\n  ${notes.join("\n  ")}`,
        {
          hint: INSTALL_HINT,
        },
      );
    },
    (holder) => reporter.line(`nats-server: waiting for process ${holder}, which is fetching it`),
  );
}

function wantedVersion(version) {
  if (version === undefined) return undefined;
  const plain = version.replace(/^v/, "");
  if (!isVersion(plain)) {
    throw new NatsServerError(
      "NATS_SERVER_NOT_FOUND",
      `${JSON.stringify(version)} is not a nats-server version`,
      {
        hint: "Write it like 2.10.27 (GUILDSTREAM_NATS_VERSION or --version).",
      },
    );
  }
  if (!isNewEnough(plain)) throw tooOld(`version ${plain} was asked for`);
  return plain;
}

async function fromVariable(env, wanted, notes) {
  if (!env.NATS_SERVER) return undefined;
  const path = resolve(env.NATS_SERVER);
  const version = await access(path, constants.X_OK)
    .then(() => binaryVersion(path))
    .catch((error) => {
      throw new NatsServerError(
        "NATS_SERVER_NOT_FOUND",
        `NATS_SERVER=${path} cannot be run: ${error.message}`,
        {
          hint: "Let NATS_SERVER name the nats-server program itself, or unset it to have one found.",
          cause: error,
        },
      );
    });
  if (!isNewEnough(version)) throw tooOld(`NATS_SERVER=${path} is ${version}`);
  if (wanted === undefined || version === wanted) return { path, version, source: "NATS_SERVER" };
  notes.push(`NATS_SERVER=${path} is ${version}, but ${wanted} was asked for`);
  return undefined;
}

async function fromPath(env, wanted, notes) {
  for (const folder of (env.PATH ?? "").split(delimiter).filter((part) => part !== "")) {
    const path = join(folder, binaryName());
    const executable = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (!executable) continue;
    try {
      const version = await binaryVersion(path);
      const fits = wanted === undefined ? isNewEnough(version) : version === wanted;
      if (fits) return { path, version, source: "PATH" };
      notes.push(`${path} is ${version}, but ${wanted ?? "2.10 or newer"} is needed`);
    } catch (error) {
      notes.push(error.message);
    }
  }
  return undefined;
}

/** Without a version asked for: the newest, if it is not older than what we would fetch. */
async function fromCache(cacheDir, wanted, notes, atLeast = RELEASE_VERSION) {
  const versions = wanted ? [wanted] : await cachedVersions(cacheDir);
  for (const version of versions) {
    if (!wanted && compareVersions(version, atLeast) < 0) break;
    const path = await readCached(cacheDir, version, (damage) => notes.push(damage));
    if (path) return { path, version, source: "cache" };
  }
  return undefined;
}

function tooOld(what) {
  return new NatsServerError(
    "NATS_SERVER_TOO_OLD",
    `${what}, but guildstream needs nats-server 2.10 or newer`,
    {
      hint: INSTALL_HINT,
    },
  );
}

/** `node scripts/nats-server.mjs [--version 2.10.27]` */
async function main() {
  try {
    const { values } = parseArgs({ options: { version: { type: "string" } } });
    const { path } = await resolveNatsServer(values);
    process.stdout.write(`${path}\n`);
  } catch (error) {
    process.stderr.write(`${error.message}\n${error.hint ? `${error.hint}\n` : ""}`);
    process.exitCode = 1;
  }
}

if (process.argv[1] && import.meta.url === pathToFileURL(resolve(process.argv[1])).href) await main();
