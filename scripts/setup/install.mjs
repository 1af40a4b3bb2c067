/**
 * Owns `node_modules`: whether it is what package-lock.json asks for, and npm's installation when not.
 * Invariant: the stamp holds the lock file's hash only after npm has ended well; before npm starts it is overwritten,
 * so that an installation cut off in the middle is done again. Used by steps.mjs.
 *
 * `npm install --no-save` and not `npm ci`: it installs the locked versions and writes neither manifest nor lock, but
 * also accepts a lock that was written where some systems' optional binaries were not to be had, which `npm ci` refuses.
 */
import { createHash } from "node:crypto";
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runChild } from "./run-child.mjs";

const STAMP = "node_modules/.guildstream-setup";

/** @returns {string | undefined} why packages must be installed */
export function installNeeded(projectDir) {
  if (!existsSync(join(projectDir, "node_modules"))) return "there is no node_modules";
  const wanted = lockHash(projectDir);
  const stamp = join(projectDir, STAMP);
  if (existsSync(stamp))
    return readFileSync(stamp, "utf8") === wanted ? undefined : "package-lock.json has changed";
  if (!installedByHand(projectDir)) return "node_modules is not what package-lock.json names";
  writeStamp(projectDir, wanted);
  return undefined;
}

export async function install(projectDir) {
  const wanted = lockHash(projectDir);
  if (existsSync(join(projectDir, "node_modules"))) writeStamp(projectDir, "unfinished");
  // The compiler is a development package: without it nothing runs from a clone.
  const args = ["install", "--no-save", "--include=dev", "--no-fund", "--no-audit"];
  const script = process.env.npm_execpath;
  if (script?.endsWith(".js")) await runChild(process.execPath, [script, ...args], projectDir);
  else await runChild(process.platform === "win32" ? "npm.cmd" : "npm", args, projectDir);
  writeStamp(projectDir, wanted);
}

function writeStamp(projectDir, content) {
  const temporary = join(projectDir, `${STAMP}.${process.pid}`);
  writeFileSync(temporary, content);
  renameSync(temporary, join(projectDir, STAMP));
}

function lockHash(projectDir) {
  return createHash("sha256")
    .update(readFileSync(join(projectDir, "package-lock.json")))
    .digest("hex");
}

/** Someone ran npm without us: what it noted down must hold every package of the lock in the same version. */
function installedByHand(projectDir) {
  try {
    const read = (file) => JSON.parse(readFileSync(join(projectDir, file), "utf8")).packages;
    const installed = read("node_modules/.package-lock.json");
    return Object.entries(read("package-lock.json")).every(
      ([place, entry]) => place === "" || entry.optional || installed[place]?.version === entry.version,
    );
  } catch {
    return false;
  }
}
