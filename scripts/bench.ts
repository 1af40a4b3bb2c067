/**
 * `npm run bench [-- NAME] [--json] [--quick]`: runs all benches or one. Progress goes to stderr, a table of the
 * figures next to their aims to stdout; with --json the last line of stdout is one JSON object.
 */
import { cpus } from "node:os";
import { parseArgs } from "node:util";
import * as append from "./bench/append.js";
import * as dispatch from "./bench/dispatch.js";
import * as drafting from "./bench/drafting.js";
import * as failover from "./bench/failover.js";
import * as hotboot from "./bench/hotboot.js";
import * as latency from "./bench/latency.js";
import * as memory from "./bench/memory.js";
import { type Aim, judge, type Row, table } from "./bench/report.js";
import { type BenchContext, closeStages } from "./bench/stage.js";

interface Bench {
  name: string;
  description: string;
  /** By the dotted path of a figure. */
  aims?: Record<string, Aim>;
  run(context: BenchContext): Promise<object>;
}

const benches: readonly Bench[] = [append, dispatch, latency, memory, drafting, failover, hotboot];

function usage(problem: string): never {
  const width = Math.max(...benches.map((bench) => bench.name.length));
  const names = benches.map((bench) => `  ${bench.name.padEnd(width)}  ${bench.description}`);
  process.stderr.write(
    `${problem}\nusage: npm run bench [-- NAME] [--json] [--quick]\n${names.join("\n")}\n`,
  );
  process.exit(2);
}

function chosenOf(args: readonly string[]): { chosen: readonly Bench[]; json: boolean; quick: boolean } {
  const flags = { json: { type: "boolean" }, quick: { type: "boolean" }, help: { type: "boolean" } } as const;
  let parsed: ReturnType<typeof parseArgs<{ options: typeof flags; allowPositionals: true }>>;
  try {
    parsed = parseArgs({ args: [...args], options: flags, allowPositionals: true });
  } catch (error) {
    usage((error as Error).message);
  }
  const { positionals, values } = parsed;
  if (values.help === true) usage("Measures the runtime on this machine.");
  if (positionals.length > 1) usage("one bench at a time, or all");
  const [wanted] = positionals;
  const chosen = wanted === undefined ? benches : benches.filter((bench) => bench.name === wanted);
  if (chosen.length === 0) usage(`there is no bench "${wanted}"`);
  return { chosen, json: values.json === true, quick: values.quick === true };
}

async function main(): Promise<void> {
  const { chosen, json, quick } = chosenOf(process.argv.slice(2));
  const results: Record<string, object> = {};
  const rows: Row[] = [];
  for (const bench of chosen) {
    const startedAt = performance.now();
    const log = (text: string): void => {
      process.stderr.write(`${bench.name}: ${text}\n`);
    };
    log(bench.description);
    const figures = await bench.run({ quick, log });
    log(`done in ${Math.round((performance.now() - startedAt) / 1_000)} s`);
    results[bench.name] = figures;
    rows.push(...judge(bench.name, figures, bench.aims ?? {}));
  }
  process.stdout.write(table(rows));
  if (!json) return;
  const machine = { cpus: cpus().length, node: process.version };
  const missed = rows.filter((row) => row.verdict === "missed").map((row) => row.figure);
  process.stdout.write(`${JSON.stringify({ quick, machine, missed, ...results })}\n`);
}

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => void closeStages().finally(() => process.exit(130)));
}

try {
  await main();
  process.exit(0);
} catch (error) {
  await closeStages();
  process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  process.exit(1);
}
