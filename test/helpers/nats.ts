/**
 * Owns the lifetime of servers in tests: started in a folder of their own, stopped and removed when the test ends,
 * however it ends. `natsVersions` are the servers the suite must pass on.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ExecutionContext } from "ava";
import {
  type EmbeddedServer,
  type EmbeddedServerOptions,
  startEmbeddedServer,
} from "../../src/nats/embedded.js";

const DEFAULT_VERSIONS = "2.10.27,2.15.1";

/** Oldest first; GUILDSTREAM_TEST_NATS_VERSIONS=2.15.1 narrows it. */
export const natsVersions: readonly string[] = (
  process.env.GUILDSTREAM_TEST_NATS_VERSIONS || DEFAULT_VERSIONS
)
  .split(",")
  .map((version) => version.trim())
  .filter((version) => version !== "");

/** The server that a test runs on which does not care. */
export const newestNatsVersion = natsVersions.at(-1)!;

/** A folder that is gone after the test. */
export async function tempDir<Context>(t: ExecutionContext<Context>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "guildstream-"));
  // Teardowns run last to first: what was started inside the folder has stopped by then.
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** A running server; `restart` and `kill` are free to use, the end is taken care of. */
export async function withServer<Context>(
  t: ExecutionContext<Context>,
  options: Partial<EmbeddedServerOptions> = {},
): Promise<EmbeddedServer> {
  const dataDir = options.dataDir ?? (await tempDir(t));
  const chosen = options.version || options.binary ? {} : { version: newestNatsVersion };
  const server = await startEmbeddedServer({ ...chosen, ...options, dataDir });
  t.teardown(() => server.stop());
  return server;
}
