/**
 * Makes a fresh clone runnable: Node's version, packages, compilation, a nats-server. Run before every npm command, so
 * with nothing to do it prints nothing and costs a tenth of a second.
 * What it says goes to stderr; stdout belongs to the command that follows.
 * Each step is finished by writing a stamp last: interrupted anywhere, the next run does that step again.
 * This file stays in a syntax that old Nodes read, so that they get the message instead of a syntax error.
 */
const LEAST = [20, 19];
const EXIT_INTERRUPTED = 130;

const [major, minor] = process.versions.node.split(".").map(Number);
if (major < LEAST[0] || (major === LEAST[0] && minor < LEAST[1])) {
  process.stderr.write(
    `guildstream needs Node ${LEAST.join(".")} or newer; this is ${process.versions.node}.\nInstall it from https://nodejs.org and run the same command again.\n`,
  );
  process.exit(1);
}

import("./setup/steps.mjs")
  .then((steps) => steps.setup())
  .catch((error) => {
    if (error.interrupted) process.exit(EXIT_INTERRUPTED);
    process.stderr.write(`setup: ${error.message}\n`);
    if (error.hint) process.stderr.write(`${error.hint}\n`);
    process.exit(1);
  });
