/**
 * Owns the order of the setup and the lock around it: two npm commands started together must not install or compile
 * over each other. Looking whether anything is to do needs no lock; doing it takes the lock and looks again.
 * Used by setup.mjs.
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { withLock } from "../lock.mjs";
import { resolveNatsServer } from "../nats-server.mjs";
import { build, buildNeeded } from "./build.mjs";
import { install, installNeeded } from "./install.mjs";

const PROJECT_DIR = fileURLToPath(new URL("../..", import.meta.url));

/**
 * @param {{ projectDir?: string, env?: NodeJS.ProcessEnv, say?: (line: string) => void }} [options]
 */
export async function setup({ projectDir = PROJECT_DIR, env = process.env, say = sayOnStderr } = {}) {
  if (installNeeded(projectDir) || buildNeeded(projectDir)) {
    await withLock(
      join(projectDir, ".cache", "setup.lock"),
      async () => {
        const missing = installNeeded(projectDir);
        if (missing) {
          say(`setup: installing packages (${missing})`);
          await install(projectDir);
        }
        const changed = buildNeeded(projectDir);
        if (changed) {
          say(`setup: compiling (${changed})`);
          await build(projectDir);
        }
      },
      { onWait: (holder) => say(`setup: waiting for process ${holder}, which is setting up`) },
    );
  }
  // With a server given there is nothing to find.
  if (!env.NATS_URL) await resolveNatsServer({ env });
}

function sayOnStderr(line) {
  process.stderr.write(`${line}\n`);
}
