/**
 * What is wrong in the world outside: each is one block (what happened, what to do), exit code 1, no stack trace, and
 * never the token.
 */

import { writeFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { compareServerVersions } from "../../src/nats/server-version.js";
import { startSimulator } from "../../src/simulator/index.js";
import { natsVersions, tempDir, withServer } from "../helpers/nats.js";
import { runCli } from "./run-cli.js";

const token = "a-secret-token";

async function fails(
  t: ExecutionContext,
  args: string[],
  expected: { code: string; says: RegExp; exit?: number; env?: Record<string, string> },
): Promise<void> {
  const { code, stdout, stderr } = await runCli(args, { env: { DISCORD_TOKEN: token, ...expected.env } });
  t.is(code, expected.exit ?? 1, stderr);
  t.regex(stderr, new RegExp(`^error ${expected.code}: `, "m"));
  t.regex(stderr, /^what to do: /m);
  t.regex(stderr, expected.says);
  t.notRegex(stderr, /^\s+at .*:\d+:\d+/m);
  t.false(`${stdout}${stderr}`.includes(token));
}

/** A server that greets as NATS does and then says nothing more. */
async function greeter(t: ExecutionContext, info: object): Promise<string> {
  const server: Server = createServer((socket) => {
    socket.on("error", () => {});
    socket.write(`INFO ${JSON.stringify(info)}\r\n`);
    socket.on("data", (data) => {
      if (data.includes("PING")) socket.write("PONG\r\n");
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.teardown(() => server.close());
  return `nats://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function closedPort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

test("no token", async (t) => {
  await fails(t, ["worker"], {
    code: "DISCORD_TOKEN_INVALID",
    says: /set DISCORD_TOKEN/,
    env: { DISCORD_TOKEN: "" },
  });
});

test("a token file that is not there", async (t) => {
  const file = join(await tempDir(t), "none");
  await fails(t, ["worker", "--token-file", file], { code: "CONFIG_INVALID", says: /token file/, exit: 2 });
});

test("no such bot file", async (t) => {
  await fails(t, ["worker", "--bot", "nowhere.ts"], {
    code: "BOT_NOT_FOUND",
    says: /built-in bots: counting/,
  });
});

test("no such bot file, told by start before it starts anything", async (t) => {
  const data = await tempDir(t);
  await fails(t, ["start", "--bot", "nowhere.ts", "--data", data], {
    code: "BOT_NOT_FOUND",
    says: /nowhere\.ts/,
    env: { DISCORD_TOKEN: "" },
  });
});

test("a bot that throws on load", async (t) => {
  const file = join(await tempDir(t), "bot.mjs");
  await writeFile(file, 'const a = 1;\nthrow new Error("no luck today");\n');
  await fails(t, ["worker", "--bot", file], { code: "BOT_LOAD_FAILED", says: /no luck today \(line 2/ });
});

test("a bot without a state", async (t) => {
  const file = join(await tempDir(t), "bot.mjs");
  await writeFile(file, 'export default { name: "stateless", intents: 0 };\n');
  await fails(t, ["worker", "--bot", file], { code: "BOT_INVALID", says: /state must be/ });
});

test("NATS is not there", async (t) => {
  const url = `nats://127.0.0.1:${await closedPort()}`;
  await fails(t, ["worker", "--nats", url], { code: "NATS_UNREACHABLE", says: /no NATS server answers/ });
  await fails(t, ["dbnode", "--nats", url], { code: "NATS_UNREACHABLE", says: /no NATS server answers/ });
  await fails(t, ["status", "--nats", url], { code: "NATS_UNREACHABLE", says: /no NATS server answers/ });
});

test("NATS is too old", async (t) => {
  const url = await greeter(t, {
    server_id: "A",
    version: "2.9.10",
    max_payload: 8_388_608,
    headers: true,
    proto: 1,
  });
  await fails(t, ["worker", "--nats", url], { code: "NATS_SERVER_TOO_OLD", says: /version 2\.9\.10/ });
});

test("NATS takes too small messages", async (t) => {
  const server = await withServer(t, { maxPayloadBytes: 65_536 });
  await fails(t, ["worker", "--nats", server.url], { code: "NATS_MAX_PAYLOAD", says: /65536 bytes/ });
});

test("three replicas asked of a single server", async (t) => {
  const { url } = await withServer(t);
  for (const command of ["worker", "dbnode", "status"]) {
    const args = [command, "--nats", url, "--replicas", "3"];
    await fails(t, args, { code: "STREAM_FAILED", says: /a cluster of at least 3 nats-servers/ });
  }
});

for (const version of natsVersions.filter((each) => compareServerVersions(each, "2.11.0") < 0)) {
  test(`three replicas asked of nats-server ${version}`, async (t) => {
    const { url, name } = await withServer(t, { version });
    const env = { NATS_URL: url, GUILDSTREAM_REPLICAS: "3" };
    await fails(t, ["dbnode"], {
      code: "NATS_SERVER_TOO_OLD",
      says: new RegExp(`need nats-server 2\\.11 or newer; ${name} is ${version}`),
      env,
    });
  });
}

test("NATS has no JetStream for this user", async (t) => {
  const server = await withServer(t, {
    extraConfig:
      "accounts { WITH: { jetstream: enabled, users: [{ user: a, password: a }] }, WITHOUT: { users: [{ user: b, password: b }] } }",
  });
  const url = server.url.replace("//", "//b:b@");
  await fails(t, ["dbnode", "--nats", url], { code: "NATS_NO_JETSTREAM", says: /start it with -js/ });
});

test("NATS refuses the credentials, and they are not repeated", async (t) => {
  const server = await withServer(t, {
    extraConfig: 'authorization { users: [{ user: "right", password: "right" }] }',
  });
  const url = server.url.replace("//", `//wrong:${token}@`);
  for (const urls of [url, `${url},${url}`, `${url}, wrong:${token}@127.0.0.1:${server.port}`]) {
    const env = { NATS_URL: urls };
    await fails(t, ["dbnode"], { code: "NATS_AUTH", says: /refused the credentials/, env });
  }
});

test("Discord refuses the token", async (t) => {
  const server = await withServer(t);
  const simulator = await startSimulator({ guilds: 5, paused: true });
  t.teardown(() => simulator.close());
  const args = ["worker", "--nats", server.url, "--discord-api", simulator.apiUrl];
  await fails(t, args, { code: "DISCORD_TOKEN_INVALID", says: /token/ });
});

test("the data folder belongs to another bot", async (t) => {
  const data = await tempDir(t);
  await writeFile(join(data, "made-by.json"), '{"bot":"levels","discord":"simulator"}');
  await fails(t, ["start", "--data", data], {
    code: "CONFIG_INVALID",
    says: /holds the guilds of bot "levels".*--reset/s,
    exit: 2,
    env: { DISCORD_TOKEN: "" },
  });
});
