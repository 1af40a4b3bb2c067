import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { loadBot } from "../../src/bots/load.js";

async function file(t: ExecutionContext, name: string, text: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "guildstream-bot-"));
  t.teardown(() => rm(folder, { recursive: true }));
  const path = join(folder, name);
  await writeFile(path, text);
  return path;
}

const body = `({ name: "mine", intents: 1, state: { version: 1, initial: () => ({ n: 0 }) } })`;

test("built-in bots load by name", async (t) => {
  t.is((await loadBot("counting")).name, "counting");
  t.is((await loadBot("community")).state.version, 2);
});

test("JavaScript and TypeScript files load, also by relative path and as CommonJS", async (t) => {
  const typed = `interface S { n: number }\nconst bot: { name: string } = ${body};\nexport default bot as unknown as S;\n`;
  for (const [name, text] of [
    ["bot.js", `module.exports = ${body};`],
    ["bot.cjs", `exports.default = ${body};`],
    ["bot.mjs", `export default ${body};`],
    ["named.mjs", `export const bot = ${body};`],
    ["bot.ts", typed],
    ["bot.mts", typed],
  ] as const) {
    t.is((await loadBot(await file(t, name, text))).name, "mine", name);
  }
});

test("a bot's file imports this package by name, wherever it lies", async (t) => {
  const text = `import { defineBot } from "guildstream";\nexport default defineBot(${body});\n`;
  for (const name of ["bot.mjs", "bot.mts", "bot.ts"]) {
    t.is((await loadBot(await file(t, name, text))).name, "mine", name);
  }
});

test("no such file, and a file of another kind, are named", async (t) => {
  const missing = await t.throwsAsync(loadBot("./no-such-bot.ts"), { message: /no file .*no-such-bot\.ts/ });
  t.like(missing, { code: "BOT_NOT_FOUND" });
  t.regex((missing as unknown as { hint: string }).hint, /counting, community/);
  const text = await t.throwsAsync(loadBot(await file(t, "bot.txt", "")));
  t.like(text, { code: "BOT_NOT_FOUND" });
  t.like(await t.throwsAsync(loadBot(tmpdir())), { code: "BOT_NOT_FOUND" });
  t.like(await t.throwsAsync(loadBot("constructor")), { code: "BOT_NOT_FOUND" });
});

test("a file that throws on load is named with the reason and the line", async (t) => {
  for (const name of ["bot.mjs", "bot.mts"]) {
    const path = await file(t, name, `const a = 1;\n\nthrow new Error("no database");\nexport default a;\n`);
    const error = await t.throwsAsync(loadBot(path), { message: /no database \(line 3/ }, name);
    t.like(error, { code: "BOT_LOAD_FAILED" });
    t.true(error!.message.includes(path));
  }
});

test("a file with a syntax error or a missing import fails to load", async (t) => {
  for (const [name, text] of [
    ["bot.mjs", "export default {"],
    ["bot.mts", "export default {"],
    ["gone.mjs", `import "no-such-package";`],
    ["gone.mts", `import "no-such-package";`],
  ] as const) {
    const error = await t.throwsAsync(loadBot(await file(t, name, text)), undefined, name);
    t.like(error, { code: "BOT_LOAD_FAILED" }, error?.message);
  }
});

test("a file without a bot, or with a wrong one, is named with what is wrong", async (t) => {
  const none = await t.throwsAsync(loadBot(await file(t, "bot.mjs", "export const a = 1;")));
  t.like(none, { code: "BOT_INVALID" });
  const wrong = await t.throwsAsync(
    loadBot(await file(t, "bot.mjs", `export default { name: "x", intents: "all" };`)),
  );
  t.like(wrong, { code: "BOT_INVALID" });
  t.regex(wrong!.message, /bot\.mjs: .*intents/);
  const refused = `import { defineBot } from "guildstream";\nexport default defineBot({ name: "" });\n`;
  const own = await t.throwsAsync(loadBot(await file(t, "bot.mts", refused)), { message: /name must be/ });
  t.like(own, { code: "BOT_INVALID" });
});
