/**
 * Owns the data folder of `guildstream start`: one run at a time, what made its content, and wiping it.
 *
 * Invariants:
 * - Only what guildstream itself puts there is ever deleted.
 * - States of one bot are not handed to another one, nor sessions of one Discord to another: the folder remembers.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { GuildstreamError, messageOf } from "../../core/errors.js";
import { type DataDirLock, lockDataDir } from "../../nats/embedded-lock.js";

const madeByFile = "made-by.json";
const ours = /^(nats|logs|made-by\.json|dbnode-.*)$/;

export interface MadeBy {
  bot: string;
  /** "simulator", or the address of Discord's API. */
  discord: string;
}

export interface DataFolder {
  path: string;
  release(): void;
}

/** @throws GuildstreamError DATA_DIR_IN_USE, DISK_FAILED, CONFIG_INVALID when another bot made what is there. */
export async function openDataFolder(given: string, madeBy: MadeBy, reset: boolean): Promise<DataFolder> {
  const path = resolve(given);
  let lock: DataDirLock;
  try {
    mkdirSync(path, { recursive: true });
    lock = await lockDataDir(path);
  } catch (cause) {
    if (cause instanceof GuildstreamError) throw cause;
    throw new GuildstreamError("DISK_FAILED", `cannot use the data folder ${path}: ${messageOf(cause)}`, {
      cause,
      hint: "name a folder that can be written, with --data or GUILDSTREAM_DATA",
    });
  }
  try {
    if (reset) for (const name of readdirSync(path)) if (ours.test(name)) remove(join(path, name));
    checkMadeBy(path, madeBy);
    mkdirSync(join(path, "logs"), { recursive: true });
    return { path, release: () => lock.release() };
  } catch (error) {
    lock.release();
    throw error;
  }
}

function checkMadeBy(folder: string, now: MadeBy): void {
  const file = join(folder, madeByFile);
  const before = existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as MadeBy) : undefined;
  if (before !== undefined && (before.bot !== now.bot || before.discord !== now.discord)) {
    throw new GuildstreamError(
      "CONFIG_INVALID",
      `${folder} holds the guilds of bot "${before.bot}" on ${before.discord}; this is "${now.bot}" on ${now.discord}`,
      { hint: "give this one a folder of its own (--data DIR), or delete the other's with --reset" },
    );
  }
  writeFileSync(file, `${JSON.stringify(now)}\n`);
}

function remove(path: string): void {
  rmSync(path, { recursive: true, force: true });
}
