#!/usr/bin/env node
/**
 * The entry, and nothing else: `guildstream worker` becomes the launcher of that worker, everything else is a command
 * of this process. Each loads only what it needs, which for the launcher is next to nothing.
 *
 * A worker runs without a launcher when whoever started it is one already (the launcher itself, `guildstream start`, a
 * bench), with `--no-launcher`, and on Windows, which knows no signals to pass on.
 */
import { isSupervised } from "./cli/lifetime.js";

const [command, ...flags] = process.argv.slice(2);
const isLauncher =
  command === "worker" && !flags.includes("--no-launcher") && !isSupervised && process.platform !== "win32";

if (isLauncher) {
  const { launch } = await import("./cli/launcher.js");
  launch([...process.execArgv, ...process.argv.slice(1)]);
} else {
  await import("./cli/commands.js");
}
