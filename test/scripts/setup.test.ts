/** The setup in a project of its own, with an npm and a compiler that only note that they ran. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { tempDir } from "../helpers/nats.js";

const COMPILER = `
const fs = require("node:fs");
fs.appendFileSync("ran.txt", "tsc\\n");
if (fs.existsSync("fail.txt")) process.exit(2);
for (const file of fs.readdirSync("src")) {
  fs.mkdirSync("build/src", { recursive: true });
  fs.writeFileSync("build/src/" + file.replace(/ts$/, "js"), "");
}
console.log("compiled");
`;
const NPM = `
const fs = require("node:fs");
fs.appendFileSync("ran.txt", "npm " + process.argv.slice(2, 4).join(" ") + "\\n");
fs.mkdirSync("node_modules/typescript/bin", { recursive: true });
fs.writeFileSync("node_modules/typescript/bin/tsc", ${JSON.stringify(COMPILER)});
console.log("installed");
// Hangs until the file is gone, also when nobody is left to end it.
if (fs.existsSync("hang.txt")) setInterval(() => fs.existsSync("hang.txt") || process.exit(1), 50);
`;

async function project(t: ExecutionContext): Promise<string> {
  const folder = await tempDir(t);
  await cp(join(process.cwd(), "scripts"), join(folder, "scripts"), { recursive: true, dereference: true });
  await mkdir(join(folder, "src"));
  await writeFile(join(folder, "src/one.ts"), "");
  await writeFile(join(folder, "src/two.ts"), "");
  await writeFile(join(folder, "package-lock.json"), '{"packages":{"":{}}}');
  await writeFile(join(folder, "package.json"), "{}");
  await writeFile(join(folder, "tsconfig.json"), "{}");
  await writeFile(join(folder, "npm.js"), NPM);
  return folder;
}

function start(t: ExecutionContext, folder: string): { child: ChildProcess; end: Promise<Ended> } {
  const env = { ...process.env, NATS_URL: "nats://127.0.0.1:1", npm_execpath: join(folder, "npm.js") };
  const child = spawn(process.execPath, ["scripts/setup.mjs"], { cwd: folder, env });
  t.teardown(() => child.kill("SIGKILL"));
  const said = { stdout: "", stderr: "" };
  child.stdout.on("data", (piece) => {
    said.stdout += piece;
  });
  child.stderr.on("data", (piece) => {
    said.stderr += piece;
  });
  return { child, end: once(child, "close").then(([code]) => ({ code: code as number, ...said })) };
}

interface Ended {
  code: number;
  stdout: string;
  stderr: string;
}

/** What npm and the compiler noted. */
async function ran(folder: string): Promise<string[]> {
  const text = await readFile(join(folder, "ran.txt"), "utf8").catch(() => "");
  await rm(join(folder, "ran.txt"), { force: true });
  return text.split("\n").filter((line) => line !== "");
}

const INSTALL = "npm install --no-save";

test("a fresh clone is installed and compiled; then there is nothing to do or to say", async (t) => {
  const folder = await project(t);
  const first = await start(t, folder).end;
  t.is(first.code, 0, first.stderr);
  t.is(first.stdout, "", "stdout belongs to the command that follows");
  t.regex(first.stderr, /installing packages[\s\S]*installed[\s\S]*compiling[\s\S]*compiled/);
  t.deepEqual(await ran(folder), [INSTALL, "tsc"]);

  t.deepEqual(await start(t, folder).end, { code: 0, stdout: "", stderr: "" });
  t.deepEqual(await ran(folder), []);
});

test("a changed lock installs again, a changed source compiles, a deleted one takes its output along", async (t) => {
  const folder = await project(t);
  await start(t, folder).end;
  await ran(folder);
  await writeFile(join(folder, "src/one.ts"), "changed");
  await rm(join(folder, "src/two.ts"));
  t.is((await start(t, folder).end).code, 0);
  t.deepEqual(await ran(folder), ["tsc"]);
  t.true(existsSync(join(folder, "build/src/one.js")));
  t.false(existsSync(join(folder, "build/src/two.js")));

  await writeFile(join(folder, "package-lock.json"), '{"packages":{"":{"version":"2"}}}');
  t.is((await start(t, folder).end).code, 0);
  t.deepEqual(await ran(folder), [INSTALL, "tsc"]);
});

test("two setups at once install and compile once", async (t) => {
  const folder = await project(t);
  const ends = await Promise.all([start(t, folder).end, start(t, folder).end, start(t, folder).end]);
  t.deepEqual(
    ends.map(({ code }) => code),
    [0, 0, 0],
  );
  t.deepEqual(await ran(folder), [INSTALL, "tsc"]);
});

test("a failed compilation fails the setup, and is tried again", async (t) => {
  const folder = await project(t);
  await writeFile(join(folder, "fail.txt"), "");
  const failed = await start(t, folder).end;
  t.is(failed.code, 1);
  t.regex(failed.stderr, /tsc failed \(exit 2\)/);
  await rm(join(folder, "fail.txt"));
  t.is((await start(t, folder).end).code, 0);
  t.deepEqual(await ran(folder), [INSTALL, "tsc", "tsc"]);
});

for (const signal of ["SIGINT", "SIGKILL"] as const) {
  test(`${signal} in the middle of an installation: the next setup does it again`, async (t) => {
    const folder = await project(t);
    await writeFile(join(folder, "hang.txt"), "");
    const { child, end } = start(t, folder);
    // npm's word that it is in the middle.
    for await (const piece of child.stderr!) if (String(piece).includes("installed")) break;
    child.kill(signal);
    await once(child, "exit");
    if (signal === "SIGINT") t.is((await end).code, 130);
    await rm(join(folder, "hang.txt"));
    t.is((await start(t, folder).end).code, 0);
    t.deepEqual(await ran(folder), [INSTALL, INSTALL, "tsc"]);
  });
}
