/**
 * Owns `build/`: whether it is older than the sources, the compilation, and the removal of outputs whose source is gone
 * (a deleted test would go on running).
 * Invariant: the stamp describes the sources of the last build that ended well. It is removed before compiling; a build
 * cut off in the middle therefore starts over from nothing, without trusting the compiler's memory of it.
 * Used by steps.mjs.
 */
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, relative } from "node:path";
import { runChild } from "./run-child.mjs";

const STAMP = "build/.guildstream-build";
const SOURCE_FOLDERS = ["src", "test", "scripts"];
const OUTPUT_ENDING = /\.(?:js|js\.map|d\.ts)$/;

/** @returns {string | undefined} why the sources must be compiled */
export function buildNeeded(projectDir) {
  const stamp = join(projectDir, STAMP);
  if (!existsSync(stamp))
    return existsSync(dirname(stamp)) ? "the last build did not finish" : "for the first time";
  return readFileSync(stamp, "utf8") === fingerprint(projectDir) ? undefined : "sources have changed";
}

export async function build(projectDir) {
  const stamp = join(projectDir, STAMP);
  const memory = join(projectDir, "build/.tsbuildinfo");
  if (!existsSync(stamp)) rmSync(memory, { force: true });
  rmSync(stamp, { force: true });
  // Taken before compiling: a source saved meanwhile is then newer than the stamp, and compiled next time.
  const compiled = fingerprint(projectDir);
  const compiler = join(projectDir, "node_modules/typescript/bin/tsc");
  await runChild(process.execPath, [compiler, "-p", "tsconfig.json"], projectDir);
  removeOrphans(projectDir);
  mkdirSync(dirname(stamp), { recursive: true });
  writeFileSync(`${stamp}.${process.pid}`, compiled);
  renameSync(`${stamp}.${process.pid}`, stamp);
}

/** Names, sizes and times are enough and take milliseconds; a checkout that only touches files compiles once for nothing. */
function fingerprint(projectDir) {
  const hash = createHash("sha256");
  for (const file of ["tsconfig.json", "package-lock.json"])
    hash.update(readFileSync(join(projectDir, file)));
  for (const path of SOURCE_FOLDERS.flatMap((folder) => filesUnder(join(projectDir, folder)))) {
    if (!/\.[cm]?ts$/.test(path)) continue;
    const { size, mtimeMs } = statSync(path);
    hash.update(`${relative(projectDir, path)}\0${size}\0${mtimeMs}\n`);
  }
  return hash.digest("hex");
}

function removeOrphans(projectDir) {
  for (const folder of SOURCE_FOLDERS) {
    for (const path of filesUnder(join(projectDir, "build", folder))) {
      if (!OUTPUT_ENDING.test(path)) continue;
      const source = relative(join(projectDir, "build"), path).replace(OUTPUT_ENDING, ".ts");
      if (!existsSync(join(projectDir, source))) rmSync(path);
    }
  }
}

function filesUnder(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => {
      const path = join(folder, entry.name);
      return entry.isDirectory() ? filesUnder(path) : [path];
    });
}
