/** How a nats-server is found: each step, its failures, and that none leaves anything behind. */
import { chmod, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { tempDir } from "../helpers/nats.js";
import {
  type Answer,
  fakeArchive,
  fakeBinary,
  fakeZip,
  loadScript,
  platform,
  releasePage,
  resolveNatsServer,
  sha256,
} from "./fake-release.js";

const version = "2.99.1";
const archiveFile = `nats-server-v${version}-${platform}.tar.gz`;
const bounds = { answerTimeoutMs: 300, stallTimeoutMs: 300, totalTimeoutMs: 5_000 };

interface Tried {
  resolve: (options?: Parameters<typeof resolveNatsServer>[0]) => ReturnType<typeof resolveNatsServer>;
  cacheDir: string;
  lines: string[];
  requests: string[];
  close: () => void;
}

/** A resolution that has only the release page to go to. */
async function withPage(
  t: ExecutionContext,
  answers: Record<string, Answer> = {},
  archive?: Buffer,
): Promise<Tried> {
  const content = archive ?? (await fakeArchive(t, version));
  const sums = Buffer.from(`${"0".repeat(64)}  other.tar.gz\n${sha256(content)}  ${archiveFile}\n`);
  const page = await releasePage(t, { [archiveFile]: content, SHA256SUMS: sums }, answers);
  const cacheDir = join(await tempDir(t), "cache");
  const lines: string[] = [];
  const reporter = { line: (text: string) => void lines.push(text), progress: () => () => {} };
  const env = { PATH: "", GUILDSTREAM_NATS_RELEASE_URL: page.url };
  const release = { platform, bounds };
  const resolve: Tried["resolve"] = (options) =>
    resolveNatsServer({ version, env, cacheDir, reporter, release, debian: false, ...options });
  return { resolve, cacheDir, lines, requests: page.requests, close: page.close };
}

/** What a failed resolution may leave: an empty cache folder. */
async function leftovers(cacheDir: string): Promise<string[]> {
  return await readdir(cacheDir).catch(() => []);
}

test("release: fetched, checked, installed; from then on the cache answers without a network", async (t) => {
  const tried = await withPage(t);
  const found = await tried.resolve();
  t.is(found.version, version);
  t.is(await readFile(found.path, "utf8"), fakeBinary(version));
  t.deepEqual(tried.requests, [`/v${version}/SHA256SUMS`, `/v${version}/${archiveFile}`]);
  t.deepEqual(await leftovers(tried.cacheDir), [version]);
  t.true(tried.lines.some((line) => line.includes(archiveFile)));

  tried.close();
  tried.lines.length = 0;
  t.deepEqual(await tried.resolve(), { path: found.path, version, source: "cache" });
  t.deepEqual(await tried.resolve({ version: undefined }), { path: found.path, version, source: "cache" });
  t.deepEqual(tried.lines, [], "a cached server is not worth a word");
});

test("release: a redirect is followed, in circles it is not", async (t) => {
  const archive = await fakeArchive(t, version);
  const redirect: Answer = (response) => response.writeHead(302, { location: "/elsewhere/real" }).end();
  const tried = await withPage(
    t,
    { [archiveFile]: redirect, real: (response) => response.end(archive) },
    archive,
  );
  t.is((await tried.resolve()).version, version);

  const circle: Answer = (response) => response.writeHead(302, { location: archiveFile }).end();
  const circled = await withPage(t, { [archiveFile]: circle });
  await t.throwsAsync(circled.resolve(), { message: /redirects/ });
});

test("release: a pinned checksum decides, whatever the page says", async (t) => {
  const archive = await fakeArchive(t, version);
  const tried = await withPage(t, {}, archive);
  const wrong = { [version]: { [platform]: "f".repeat(64) } };
  await t.throwsAsync(tried.resolve({ release: { platform, bounds, pins: wrong } }), {
    message: /pinned here/,
  });
  t.deepEqual(await leftovers(tried.cacheDir), []);
  const right = { [version]: { [platform]: sha256(archive) } };
  await tried.resolve({ release: { platform, bounds, pins: right } });
  t.false(tried.requests.some((path) => path.endsWith("SHA256SUMS")));
});

const failures: [string, RegExp, Answer][] = [
  ["missing", /HTTP 404/, (response) => response.writeHead(404).end()],
  ["a broken server", /HTTP 500/, (response) => response.writeHead(500).end()],
  [
    "cut off",
    /cut off after \d+ of \d+ bytes/,
    (response, content) => {
      response.writeHead(200, { "content-length": content.length });
      response.write(content.subarray(0, content.length / 2), () => response.destroy());
    },
  ],
  [
    "cut off without a declared length",
    /SHA-256 [0-9a-f]{64}, but [0-9a-f]{64} is in the release's SHA256SUMS/,
    (response, content) => response.write(content.subarray(0, content.length / 2), () => response.end()),
  ],
  [
    "corrupt",
    /is not what it should be/,
    (response, content) => {
      const changed = Buffer.from(content);
      changed[changed.length >> 1]! ^= 1;
      response.end(changed);
    },
  ],
  ["silent", /no answer for 0\.3 s/, () => {}],
  [
    "stalled in the middle",
    /no data for 0\.3 s/,
    (response, content) => {
      response.writeHead(200, { "content-length": content.length });
      response.write(content.subarray(0, 10));
    },
  ],
];
for (const [name, message, answer] of failures) {
  test(`release: ${name} is reported and leaves nothing`, async (t) => {
    const tried = await withPage(t, { [archiveFile]: answer });
    const error = await t.throwsAsync<Error & { code?: string; hint?: string }>(tried.resolve());
    t.is(error?.code, "NATS_SERVER_NOT_FOUND");
    t.regex(error?.message ?? "", message);
    t.regex(error?.hint ?? "", /apt-get install[\s\S]*brew[\s\S]*NATS_SERVER=/);
    t.deepEqual(await leftovers(tried.cacheDir), []);
  });
}

test("release: a program that is another version, or does not run, is never cached", async (t) => {
  for (const content of [fakeBinary("2.98.0"), "#!/bin/sh\nexit 1\n"]) {
    const tried = await withPage(t, {}, await fakeArchive(t, version, content));
    await t.throwsAsync(tried.resolve(), { message: /says it is 2\.98\.0|--version failed/ });
    t.deepEqual(await leftovers(tried.cacheDir), []);
  }
});

test("release: a zip is read as well", async (t) => {
  type Archive = { readFromArchive(archive: Buffer, file: string, wanted: string): Buffer };
  const { readFromArchive } = await loadScript<Archive>("nats-server/archive.mjs");
  const program = Buffer.from("the program".repeat(100));
  const zip = fakeZip("nats-server-v1/nats-server.exe", program);
  t.deepEqual(readFromArchive(zip, "a.zip", "nats-server.exe"), program);
  t.throws(() => readFromArchive(zip, "a.zip", "other"), { message: /holds no other/ });
  t.throws(() => readFromArchive(zip.subarray(0, 50), "a.zip", "nats-server.exe"), { message: /cut off/ });
});

test("cache: a damaged program is noticed and fetched again", async (t) => {
  const tried = await withPage(t);
  const { path } = await tried.resolve();
  await writeFile(path, `${fakeBinary(version)}# changed\n`);
  const again = await tried.resolve();
  t.is(await readFile(again.path, "utf8"), fakeBinary(version));
  t.true(tried.lines.some((line) => line.includes("damaged")));
  t.deepEqual(await leftovers(tried.cacheDir), [version]);
});

test("cache: what a dead process left is removed, its lock taken over", async (t) => {
  const tried = await withPage(t);
  await mkdir(join(tried.cacheDir, ".tmp-dead"), { recursive: true });
  // No process has this id: Linux ends at 2^22, macOS far below.
  await writeFile(join(tried.cacheDir, ".lock"), JSON.stringify({ pid: 2 ** 22 + 1 }));
  await tried.resolve();
  t.deepEqual(await leftovers(tried.cacheDir), [version]);
});

test("cache: two resolutions at once fetch once", async (t) => {
  const tried = await withPage(t);
  const [one, two] = await Promise.all([tried.resolve(), tried.resolve()]);
  t.is(one.path, two.path);
  t.is(tried.requests.filter((path) => path.endsWith(".tar.gz")).length, 1);
});

/** A program on its own in a folder, as in PATH. */
async function program(t: ExecutionContext, content: string): Promise<string> {
  const path = join(await tempDir(t), "nats-server");
  await writeFile(path, content);
  await chmod(path, 0o755);
  return path;
}

const nowhere = { release: false, debian: false, reporter: { line() {}, progress: () => () => {} } } as const;

test("NATS_SERVER is taken at its word: good, missing, not executable, too old", async (t) => {
  const cacheDir = join(await tempDir(t), "cache");
  const given = (path: string) =>
    resolveNatsServer({ cacheDir, env: { NATS_SERVER: path, PATH: "" }, ...nowhere });
  const good = await program(t, fakeBinary("2.10.0"));
  t.deepEqual(await given(good), { path: good, version: "2.10.0", source: "NATS_SERVER" });
  await t.throwsAsync(given(`${good}-missing`), { code: "NATS_SERVER_NOT_FOUND", message: /cannot be run/ });
  await chmod(good, 0o644);
  await t.throwsAsync(given(good), { code: "NATS_SERVER_NOT_FOUND" });
  await t.throwsAsync(given(await program(t, fakeBinary("2.9.10"))), {
    code: "NATS_SERVER_TOO_OLD",
    message: /is 2\.9\.10/,
  });
});

test("PATH: the first that is new enough; an asked-for version must be it", async (t) => {
  const cacheDir = join(await tempDir(t), "cache");
  const old = await program(t, fakeBinary("2.9.10"));
  const good = await program(t, fakeBinary("2.11.4"));
  const env = { PATH: `${dirname(old)}:${dirname(good)}` };
  t.is((await resolveNatsServer({ cacheDir, env, ...nowhere })).path, good);
  const asked = resolveNatsServer({ cacheDir, env, version: "2.12.0", ...nowhere });
  await t.throwsAsync(asked, { code: "NATS_SERVER_NOT_FOUND", message: /2\.9\.10[\s\S]*2\.11\.4/ });
  const viaEnv = { ...env, GUILDSTREAM_NATS_VERSION: "v2.11.4" };
  t.is((await resolveNatsServer({ cacheDir, env: viaEnv, ...nowhere })).path, good);
});

test("a version that is none, or too old, is refused before anything is looked for", async (t) => {
  await t.throwsAsync(resolveNatsServer({ version: "newest", ...nowhere }), {
    message: /not a nats-server version/,
  });
  await t.throwsAsync(resolveNatsServer({ version: "2.9.25", ...nowhere }), { code: "NATS_SERVER_TOO_OLD" });
});
