/**
 * Owns the way from what the user names on the command line to a bot: a built-in name, or a file.
 *
 * JavaScript loads natively, TypeScript through tsx, which is itself loaded only then. `import ... from "guildstream"`
 * works in a bot's file wherever it lies: where Node finds no such package beside the file, it gets this one.
 *
 * Used by the worker and by the command line. All errors are the user's to mend: BOT_NOT_FOUND, BOT_LOAD_FAILED,
 * BOT_INVALID, with the place in the file where there is one.
 */
import { stat } from "node:fs/promises";
import { register } from "node:module";
import { extname, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { type AnyBot, validateBot } from "../core/bot.js";
import { GuildstreamError, messageOf } from "../core/errors.js";

const builtIn: Record<string, () => Promise<{ default: AnyBot }>> = {
  counting: () => import("./counting.js"),
  community: () => import("./community.js"),
};

const scripts = new Set([".js", ".mjs", ".cjs"]);
const typeScripts = new Set([".ts", ".mts", ".cts"]);

/** The names of the bots that come along. */
export const builtInBots: readonly string[] = Object.keys(builtIn);

/**
 * Loads a bot by built-in name or file path (relative to the working directory).
 *
 * @throws GuildstreamError BOT_NOT_FOUND, BOT_LOAD_FAILED, BOT_INVALID.
 */
export async function loadBot(nameOrPath: string): Promise<AnyBot> {
  const known = Object.hasOwn(builtIn, nameOrPath) ? builtIn[nameOrPath] : undefined;
  if (known !== undefined) return (await known()).default;
  const path = resolve(nameOrPath);
  await assertScript(nameOrPath, path);
  const module = await importScript(path);
  const bot = exportOf(module);
  if (bot === undefined) {
    throw new GuildstreamError("BOT_INVALID", `${path} exports no bot`, {
      hint: "export default defineBot({ name, intents, state: { version, initial }, on, commands })",
    });
  }
  try {
    validateBot(bot);
  } catch (error) {
    if (!(error instanceof GuildstreamError)) throw error;
    const hint = error.hint === undefined ? {} : { hint: error.hint };
    throw new GuildstreamError(error.code, `${path}: ${error.message}`, { cause: error, ...hint });
  }
  return bot;
}

async function assertScript(given: string, path: string): Promise<void> {
  const stats = await stat(path).catch(() => undefined);
  if (stats === undefined) {
    throw new GuildstreamError("BOT_NOT_FOUND", `there is no bot "${given}": no file ${path}`, {
      hint: `name a file, or one of the built-in bots: ${builtInBots.join(", ")}`,
    });
  }
  const extension = extname(path);
  if (!stats.isFile() || !(scripts.has(extension) || typeScripts.has(extension))) {
    throw new GuildstreamError("BOT_NOT_FOUND", `${path} is no TypeScript or JavaScript file`, {
      hint: `a bot's file ends in ${[...typeScripts, ...scripts].join(", ")}`,
    });
  }
}

async function importScript(path: string): Promise<unknown> {
  registerHook();
  const url = pathToFileURL(path).href;
  try {
    if (scripts.has(extname(path))) return await import(url);
    const { tsImport } = await import("tsx/esm/api");
    return await tsImport(url, import.meta.url);
  } catch (error) {
    // A bot's own defineBot refused it.
    if ((error as { code?: unknown }).code === "BOT_INVALID") {
      const { message, hint } = error as { message: string; hint?: string };
      throw new GuildstreamError("BOT_INVALID", `${path}: ${message}`, {
        cause: error,
        ...(hint && { hint }),
      });
    }
    throw new GuildstreamError("BOT_LOAD_FAILED", `${path} failed to load: ${describe(error, path)}`, {
      cause: error,
      hint: hintFor(error),
    });
  }
}

/** What went wrong, and the line of the bot's file it came from when the stack tells. */
function describe(error: unknown, path: string): string {
  const stack = error instanceof Error ? (error.stack ?? "") : "";
  const frame = stack
    .split("\n")
    .map((line) => decodePath(line))
    .find((line) => line.includes(path) && /:\d+/.test(line));
  const place = frame === undefined ? undefined : /:(\d+(?::\d+)?)\D*$/.exec(frame)?.[1];
  const what = messageOf(error).split("\n")[0];
  return place === undefined ? `${what}` : `${what} (line ${place.replace(":", ", column ")})`;
}

/** Stack frames name ES modules by URL. */
function decodePath(line: string): string {
  const url = /file:\/\/[^\s)]+/.exec(line)?.[0];
  if (url === undefined) return line;
  const place = /(?::\d+){1,2}$/.exec(url)?.[0] ?? "";
  const bare = url.slice(0, url.length - place.length).replace(/\?.*$/, "");
  return URL.canParse(bare) ? line.replace(url, `${fileURLToPath(bare)}${place}`) : line;
}

function hintFor(error: unknown): string {
  const { code } = error as { code?: unknown };
  if (code === "ERR_MODULE_NOT_FOUND")
    return "install the package it imports next to it, or correct the import's path";
  return "run the file by itself (npx tsx FILE) to see the whole error";
}

/** A bot is the default export, or is called `bot`; a CommonJS file's exports are the default one. */
function exportOf(module: unknown): unknown {
  const { default: value, bot } = module as { default?: unknown; bot?: unknown };
  const inner = value as { default?: unknown; bot?: unknown; state?: unknown } | null | undefined;
  if (inner !== null && typeof inner === "object" && inner.state === undefined) {
    return inner.default ?? inner.bot ?? value;
  }
  return value ?? bot;
}

let isRegistered = false;

function registerHook(): void {
  if (isRegistered) return;
  isRegistered = true;
  register(new URL("./resolve-hook.js", import.meta.url));
}
