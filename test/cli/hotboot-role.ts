/**
 * A role with the real lifetime of one, and nothing to hand over: its hotboot waits for the successor, its drain for
 * a moment, and that is all.
 * Logs a line on stderr for what it does, and its start and end into FAKE_JOURNAL, for when nobody reads stderr.
 * HOTBOOT_FAILS names a generation that ends before it is ready, with 3; with ASKS_TWICE it asks once more meanwhile.
 */
import { appendFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { runUntilStopped, stopSignal, tellSupervisor } from "../../src/cli/lifetime.js";
import { generation, spawnNext } from "../../src/cli/successor.js";

const drainMs = Number(process.env.DRAIN_MS ?? 300);
const name = `${process.argv[2]}, generation ${generation}`;
const say = (text: string): void => void process.stderr.write(`${name}: ${text}\n`);

function note(event: string): void {
  if (process.env.FAKE_JOURNAL === undefined) return;
  appendFileSync(process.env.FAKE_JOURNAL, `${JSON.stringify({ generation, pid: process.pid, event })}\n`);
}

async function hotboot(): Promise<void> {
  note("asked");
  const next = await spawnNext(`${process.argv[2]}.${generation}`);
  if (process.env.ASKS_TWICE !== undefined) await spawnNext("again").catch((error) => say(error.message));
  const ended = await Promise.race([next.ready, next.ended]);
  if (ended !== undefined) throw new Error(`process ${next.pid} ended with ${ended.code ?? ended.signal}`);
}

const stop = stopSignal(say);
if (String(generation) === process.env.HOTBOOT_FAILS) {
  if (process.env.ASKS_TWICE !== undefined) await delay(1_000); // Long enough to be asked about.
  process.exit(3);
}
say(`up as ${process.pid} with ${process.argv.slice(3).join(" ")}`);
note("up");
tellSupervisor({ type: "ready" });
setInterval(() => {}, 60_000);
const drain = async (): Promise<void> => {
  await delay(drainMs);
  say("drained");
  note("drained");
};
await runUntilStopped({ hotboot, stop: drain }, stop, say);
process.exit(0);
