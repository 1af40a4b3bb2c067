/** The embedded server on every server version: life, death, and what it says when it cannot start. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import test from "ava";
import { connect } from "nats";
import { GuildstreamError } from "../../src/core/errors.js";
import { startEmbeddedServer } from "../../src/nats/embedded.js";
import { compareServerVersions } from "../../src/nats/server-version.js";
import { natsVersions, newestNatsVersion, tempDir, withServer } from "../helpers/nats.js";

/** Whether a process of this id runs. */
function runs(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

for (const version of natsVersions) {
  test(`${version}: kill and restart keep port and data`, async (t) => {
    const server = await withServer(t, { version });
    t.is(server.version, version);
    const { url, pid } = server;

    const before = await connect({ servers: url });
    t.is(before.info?.max_payload, 8 * 1024 * 1024);
    await (await before.jetstreamManager()).streams.add({ name: "KEPT", subjects: ["kept"] });
    await before.jetstream().publish("kept", "one");
    await before.close();

    const { exited } = server;
    await server.kill();
    t.is((await exited).signal, "SIGKILL");
    t.false(runs(pid));
    await server.restart();
    t.is(server.url, url);
    t.not(server.pid, pid);

    const after = await connect({ servers: url });
    t.is((await (await after.jetstreamManager()).streams.info("KEPT")).state.messages, 1);
    await after.close();

    await server.stop();
    t.false(runs(server.pid));
    await server.stop(); // stopping twice is no error
  });

  test(`${version}: limits, extra configuration and a given port reach the server`, async (t) => {
    const first = await withServer(t, { version });
    await first.stop();
    const server = await withServer(t, {
      version,
      port: first.port,
      maxPayloadBytes: 1_000_000,
      syncAlways: true,
      extraConfig: "authorization { user: u, password: p }",
    });
    t.is(server.port, first.port);
    await t.throwsAsync(connect({ servers: server.url, maxReconnectAttempts: 0 }), {
      message: /authorization/i,
    });
    const nc = await connect({ servers: server.url, user: "u", pass: "p" });
    t.is(nc.info?.max_payload, 1_000_000);
    await nc.close();
  });
}

test("a data folder has one server, and is free again after stop", async (t) => {
  const dataDir = await tempDir(t);
  const server = await withServer(t, { dataDir });
  await t.throwsAsync(startEmbeddedServer({ dataDir, version: newestNatsVersion }), {
    code: "DATA_DIR_IN_USE",
  });
  t.true(runs(server.pid), "the refused start leaves the first server alone");
  await server.stop();
  await withServer(t, { dataDir });
});

test("a server left behind by a killed process is ended, and its data folder taken over", async (t) => {
  const dataDir = await tempDir(t);
  const embedded = new URL("../../src/nats/embedded.js", import.meta.url).href;
  const script = `import(${JSON.stringify(embedded)}).then(async ({ startEmbeddedServer }) => {
    const server = await startEmbeddedServer(${JSON.stringify({ dataDir, version: newestNatsVersion })});
    process.stdout.write(String(server.pid));
  })`;
  const owner = spawn(process.execPath, ["-e", script], { stdio: ["ignore", "pipe", "inherit"] });
  t.teardown(() => owner.kill("SIGKILL"));
  const [printed] = await once(owner.stdout, "data");
  const orphan = Number(String(printed));
  await t.throwsAsync(startEmbeddedServer({ dataDir, version: newestNatsVersion }), {
    code: "DATA_DIR_IN_USE",
  });

  owner.kill("SIGKILL");
  await once(owner, "exit");
  t.true(runs(orphan), "the server outlives its owner");
  const server = await withServer(t, { dataDir });
  t.not(server.pid, orphan);
  const nc = await connect({ servers: server.url });
  await nc.close();
});

test("a taken port is named", async (t) => {
  const other = createServer().listen(0, "127.0.0.1");
  t.teardown(() => other.close());
  await once(other, "listening");
  const { port } = other.address() as { port: number };
  const error = await t.throwsAsync(withServer(t, { port }), { instanceOf: GuildstreamError });
  t.is(error?.code, "NATS_SERVER_START_FAILED");
  t.regex(error?.message ?? "", /address already in use/);
  t.regex(error?.hint ?? "", new RegExp(String(port)));
});

test("a server that dies at start: its last words are in the error", async (t) => {
  const dataDir = await tempDir(t);
  const error = await t.throwsAsync(withServer(t, { dataDir, extraConfig: "nonsense {" }), {
    instanceOf: GuildstreamError,
  });
  t.is(error?.code, "NATS_SERVER_START_FAILED");
  t.regex(error?.message ?? "", /exited with code 1[\s\S]*Parse error/i);
  await withServer(t, { dataDir }); // the failed start has given the folder free
});

test("a missing program, one that is none, and one too old are refused", async (t) => {
  const folder = await tempDir(t);
  const refuse = (binary: string) => startEmbeddedServer({ dataDir: join(folder, "data"), binary });
  await t.throwsAsync(refuse(join(folder, "missing")), { code: "NATS_SERVER_NOT_FOUND" });
  const script = join(folder, "fake");
  await writeFile(script, "#!/bin/sh\necho hello\n");
  await chmod(script, 0o755);
  await t.throwsAsync(refuse(script), { code: "NATS_SERVER_NOT_FOUND" });
  await writeFile(script, "#!/bin/sh\necho 'nats-server: v2.9.10'\n");
  const error = await t.throwsAsync(refuse(script), { code: "NATS_SERVER_TOO_OLD" });
  t.regex(error?.message ?? "", /2\.9\.10/);
});

test("versions compare by number", (t) => {
  t.true(compareServerVersions("2.9.21", "2.10.0") < 0);
  t.true(compareServerVersions("v2.15.1", "2.15.0") > 0);
  t.is(compareServerVersions("2.12.0-RC.1", "2.12.0"), 0);
});
