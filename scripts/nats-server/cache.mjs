/**
 * Owns `.cache/nats-server/`: one folder a version with the binary and a record of its SHA-256.
 * Invariant: a version's folder appears by one rename, complete and checked, or not at all. If the process dies
 * anywhere before, only a `.tmp-*` folder is left, which the next installation removes.
 * Used by nats-server.mjs (look up, install).
 */
import { createHash } from "node:crypto";
import { closeSync, existsSync, fsyncSync, openSync, writeSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { withLock } from "../lock.mjs";
import { binaryName } from "./releases.mjs";
import { binaryVersion, compareVersions, isVersion } from "./versions.mjs";

const RECORD = "record.json";

/** The versions that have a folder, newest first. Whether they are sound is found out by `readCached`. */
export async function cachedVersions(cacheDir) {
  let names;
  try {
    names = await readdir(cacheDir);
  } catch (error) {
    if (error.code === "ENOENT") return [];
    throw error;
  }
  return names.filter(isVersion).sort((a, b) => compareVersions(b, a));
}

/**
 * The cached binary, after comparing its content with the record made when it was installed.
 * @returns {Promise<string | undefined>} undefined when there is none, or none that is sound (then `onDamage` is told)
 */
export async function readCached(cacheDir, version, onDamage = () => {}) {
  const folder = join(cacheDir, version);
  if (!existsSync(folder)) return undefined;
  const path = join(folder, binaryName());
  try {
    const record = JSON.parse(await readFile(join(folder, RECORD), "utf8"));
    if (record.sha256 !== sha256Of(await readFile(path))) throw new Error("its content has changed");
    return path;
  } catch (error) {
    onDamage(`the cached nats-server ${version} is damaged (${error.message})`);
    return undefined;
  }
}

/**
 * Puts a binary into the cache. Runs it once before: a binary that does not start here is never cached.
 * @param {string} cacheDir
 * @param {{ binary: Buffer, version: string, source: string }} found
 * @returns {Promise<string>} the path
 */
export async function installCached(cacheDir, { binary, version, source }) {
  await mkdir(cacheDir, { recursive: true });
  const temporary = await mkdtemp(join(cacheDir, ".tmp-"));
  try {
    const path = join(temporary, binaryName());
    writeDurably(path, binary, 0o755);
    const actual = await binaryVersion(path);
    if (actual !== version) throw new Error(`the binary says it is ${actual}, not ${version}`);
    const record = { version, source, sha256: sha256Of(binary), sizeBytes: binary.length };
    writeDurably(join(temporary, RECORD), `${JSON.stringify(record, null, 2)}\n`, 0o644);
    const folder = join(cacheDir, version);
    // A damaged folder steps aside by a rename: a process that still runs its binary is not disturbed.
    if (existsSync(folder)) await rename(folder, join(temporary, "damaged"));
    await chmod(temporary, 0o755); // mkdtemp makes it private; whoever may read the project may run the server
    await rename(temporary, folder);
    await rm(join(folder, "damaged"), { recursive: true, force: true });
    return join(folder, binaryName());
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    throw error;
  }
}

/** Holds the cache against other processes; removes what a dead one has left. */
export function withCacheLock(cacheDir, work, onWait) {
  return withLock(
    join(cacheDir, ".lock"),
    async () => {
      for (const name of await readdir(cacheDir)) {
        if (name.startsWith(".tmp-")) await rm(join(cacheDir, name), { recursive: true, force: true });
      }
      return work();
    },
    { onWait },
  );
}

export function sha256Of(content) {
  return createHash("sha256").update(content).digest("hex");
}

function writeDurably(path, content, mode) {
  const descriptor = openSync(path, "wx", mode);
  try {
    const bytes = Buffer.from(content);
    for (let at = 0; at < bytes.length; ) at += writeSync(descriptor, bytes, at);
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
