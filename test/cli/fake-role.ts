/**
 * A role that does nothing but speak with its supervisor, by a plan for each of its generations (FAKE_PLAN), and write
 * down what befalls it (FAKE_JOURNAL, a JSON object a line). Imports nothing of ours: it is what the messages say.
 */
import { appendFileSync } from "node:fs";

export interface Plan {
  /** Ends by itself so long after its start, with this code or by this signal on itself. */
  ends?: { afterMs: number; code?: number; signal?: NodeJS.Signals };
  /** Never says that it is ready. */
  mute?: true;
  /** Says what no version of ours has ever said, before anything else. */
  babbles?: true;
  /** Asks for its successor without being asked to. */
  restless?: true;
  /** Stays when its successor is ready. */
  clings?: true;
  /** Ends on the second signal only, with 130. */
  slow?: true;
  /** The code it ends with when all went well. */
  code?: number;
}

const generation = Number(process.env.GUILDSTREAM_GENERATION);
const plans = JSON.parse(process.env.FAKE_PLAN ?? "{}") as Record<string, Plan>;
const plan = plans[generation] ?? {};

function note(event: string, more: object = {}): void {
  const line = JSON.stringify({ generation, pid: process.pid, event, ...more });
  appendFileSync(process.env.FAKE_JOURNAL!, `${line}\n`);
}

function say(message: unknown): void {
  process.send!(message, undefined, undefined, () => {});
}

function end(code: number): void {
  note("end", { code });
  process.exit(code);
}

let signals = 0;
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => {
    signals += 1;
    note("signal", { signal });
    if (signals > 1) end(130);
    else if (plan.slow !== true) setTimeout(() => end(plan.code ?? 0), 100);
  });
}
process.on("SIGUSR2", () => {
  note("asked");
  say({ type: "spawnNext", id: `fake.${generation}` });
});
process.on("message", (message: { type: string }) => {
  note("told", { message });
  if (message.type === "nextReady" && plan.clings !== true) end(plan.code ?? 0);
});
process.on("disconnect", () => {
  note("alone");
  end(plan.code ?? 0);
});

note("up", { args: process.argv.slice(2), release: process.env.FAKE_RELEASE });
if (plan.babbles) {
  for (const nonsense of ["ready", 7, [], { type: "dance" }, { type: "spawnNext" }]) say(nonsense);
  for (const id of [7, "", "--reset", "a b"]) say({ type: "spawnNext", id });
}
if (plan.mute !== true) {
  say({ type: "ready" });
  note("ready");
}
if (plan.restless) say({ type: "spawnNext", id: `fake.${generation}` });
if (plan.ends !== undefined) {
  const { afterMs, code, signal } = plan.ends;
  setTimeout(() => (signal === undefined ? end(code ?? 0) : process.kill(process.pid, signal)), afterMs);
}
setInterval(() => {}, 60_000);
