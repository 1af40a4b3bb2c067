/** What the README says that can be checked: its bot, its configuration table, its npm scripts, its files. */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import test from "ava";
import { loadBot } from "../../src/bots/load.js";
import type { CommandContext, GuildContext } from "../../src/core/bot.js";
import { packageRoot } from "../../src/nats/definitions.js";

const run = promisify(execFile);
const root = packageRoot();
const cli = fileURLToPath(new URL("../../src/cli.js", import.meta.url));
const commands = ["start", "worker", "dbnode", "hotboot", "simulator", "status"] as const;

const readme = await readFile(join(root, "README.md"), "utf8");

interface Flag {
  env: string;
  commands: string[];
}

test("the first bot compiles, loads, counts and answers", async (t) => {
  const code = /```ts\n([\s\S]*?)```/.exec(readme)?.[1];
  t.truthy(code);
  t.true(code!.split("\n").filter((line) => line !== "").length <= 20, "twenty lines");

  // Below the package: its own name and its dependencies resolve as beside a bot in a clone.
  const folder = await mkdtemp(join(root, "build", "readme-"));
  t.teardown(() => rm(folder, { recursive: true }));
  const path = join(folder, "my-bot.ts");
  await writeFile(path, code!);
  const compilerOptions = {
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    module: "NodeNext",
    target: "ES2023",
    types: [],
  };
  await writeFile(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["my-bot.ts"] }));
  const compiler = join(root, "node_modules/typescript/bin/tsc");
  await t.notThrowsAsync(run(process.execPath, [compiler, "-p", folder]));

  const bot = await loadBot(path);
  const state = bot.state.initial("1");
  const message = { author: { id: "7" } };
  for (let i = 0; i < 2; i += 1) {
    await bot.on?.MESSAGE_CREATE?.({ state, data: message } as GuildContext<unknown, "MESSAGE_CREATE">);
  }
  const replies: unknown[] = [];
  const context = { state, userId: "7", reply: (body: unknown) => replies.push(body) };
  await bot.commands?.messages?.run(context as unknown as CommandContext<unknown>);
  t.deepEqual(replies, ["2 so far."]);
});

test("the configuration table names every flag, its variable and its commands, and no others", async (t) => {
  const inHelp: Record<string, Flag> = {};
  for (const command of commands) {
    for (const [flag, env] of await flagsOf(command)) {
      inHelp[flag] ??= { env, commands: [] };
      inHelp[flag].commands.push(command);
      t.is(inHelp[flag].env, env, `${flag} of ${command}`);
    }
  }
  const inTable: Record<string, Flag> = {};
  for (const [, flag, env, named] of readme.matchAll(
    /^\| `(--[\w-]+)` +\| (?:`(\w+)`)? *\| ([^|]+?) *\|/gm,
  )) {
    t.false(flag! in inTable, `${flag} twice`);
    inTable[flag!] = { env: env ?? "", commands: named!.split(", ") };
  }
  t.deepEqual(inTable, inHelp);
});

test("flags and variables in the text exist", async (t) => {
  const help = (await Promise.all(commands.map(helpOf))).join("\n");
  const setup = await readFile(join(root, "scripts/nats-server.mjs"), "utf8").catch(() => undefined);
  for (const [, rest] of readme.matchAll(/npm (?:start|run \w+) -- (.*)$/gm)) {
    for (const [flag] of rest!.matchAll(/--[\w-]+/g)) t.true(help.includes(`${flag} `), flag);
  }
  for (const [name] of readme.matchAll(/\b(?:GUILDSTREAM|DISCORD)_[A-Z_]+\b/g)) {
    t.true(help.includes(name) || setup === undefined || setup.includes(name), name);
  }
});

test("npm scripts and linked files exist", async (t) => {
  const { scripts } = JSON.parse(await readFile(join(root, "package.json"), "utf8")) as {
    scripts: Record<string, string>;
  };
  const named = [...readme.matchAll(/(?:`|^)npm (?:run )?([a-z]+)/gm)].map((match) => match[1]!);
  t.true(named.length > 5);
  for (const name of new Set(named)) t.true(name in scripts, `npm run ${name}`);
  for (const name of Object.keys(scripts)) t.true(named.includes(name), `the README does not name ${name}`);
  for (const [, target] of readme.matchAll(/\]\((?!https?:)([^)]+)\)/g)) {
    t.true(existsSync(join(root, target!)), target);
  }
});

async function helpOf(command: string): Promise<string> {
  const { stdout } = await run(process.execPath, [cli, command, "--help"]);
  return stdout;
}

/** Long flags of a command, each with its environment variable or an empty text. */
async function flagsOf(command: string): Promise<[flag: string, env: string][]> {
  const own = (await helpOf(command)).split("Global Options:")[0]!;
  return own
    .split(/^ {2}(?=-)/m)
    .filter((text) => text.startsWith("--"))
    .map((text) => [/^--[\w-]+/.exec(text)![0], /\benv:\s+(\w+)/.exec(text)?.[1] ?? ""]);
}
