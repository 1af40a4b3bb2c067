/** Owns the result of a run of `guildstream start`: its shape, when it is good, how it reads. Pure. */
import { megabytes, milliseconds, plural, whole } from "../view/format.js";

export interface Summary {
  /** Dispatches of guilds that the simulator sent and the check compared; null without a counting bot. */
  dispatches: number | null;
  handled: number | null;
  lost: number | null;
  duplicated: number | null;
  appended: number;
  savedPerNode: Record<string, number>;
  checksums: Record<string, string>;
  answers: {
    sent: number;
    late: number;
    never: number;
    p50Ms: number | null;
    p99Ms: number | null;
  } | null;
  identifies: number;
  resumes: number;
  handlerErrors: number;
  restarts: Record<string, number>;
  rssBytes: Record<string, number>;
  durationS: number;
  guilds: number | null;
  ratePerSecond: number | null;
  shards: number | null;
  seed: number | null;
  bot: string;
  natsServerVersion: string;
  version: string;
  /** What is wrong; empty when the run is good. */
  problems: string[];
}

/** What is wrong with a run, in words. `open` and `differences` come from the settling and the check. */
export function problemsOf(
  summary: Omit<Summary, "problems">,
  open: readonly string[],
  differences: readonly string[],
): string[] {
  const problems: string[] = [];
  if ((summary.lost ?? 0) > 0) problems.push(`${plural(summary.lost!, "dispatch", "dispatches")} lost`);
  if ((summary.duplicated ?? 0) > 0) {
    problems.push(`${plural(summary.duplicated!, "dispatch", "dispatches")} handled twice`);
  }
  problems.push(...differences);
  if ((summary.answers?.never ?? 0) > 0) {
    problems.push(`${plural(summary.answers!.never, "interaction")} never answered`);
  }
  const saved = new Set(Object.values(summary.savedPerNode));
  const checksums = new Set(Object.values(summary.checksums));
  if (saved.size > 1 || checksums.size > 1) problems.push("the database nodes do not hold the same state");
  problems.push(...open.map((what) => `in the end still waiting for ${what}`));
  return problems;
}

/** The summary for people. */
export function renderSummary(summary: Summary): string {
  const nodes = Object.entries(summary.savedPerNode).map(([id, saved]) => `${id} up to ${whole(saved)}`);
  const checksums = [...new Set(Object.values(summary.checksums))];
  const same = checksums.length === 1 ? `same state (${checksums[0]})` : "different states";
  const memory = Object.entries(summary.rssBytes).map(([name, bytes]) => `${name} ${megabytes(bytes)}`);
  const restarts = Object.entries(summary.restarts).map(
    ([name, count]) => `${name} ${plural(count, "time")}`,
  );
  const { answers } = summary;
  const world = [
    `${Math.round(summary.durationS)} s`,
    ...(summary.ratePerSecond === null ? [] : [`at ${whole(summary.ratePerSecond)} dispatches/s`]),
    ...(summary.guilds === null ? [] : [plural(summary.guilds, "guild")]),
    ...(summary.shards === null ? [] : [plural(summary.shards, "shard")]),
    ...(summary.seed === null ? [] : [`seed ${summary.seed}`]),
    `nats-server ${summary.natsServerVersion}`,
  ];
  const lines = [
    "",
    `  ${world.join(", ")}`,
    row(
      "dispatches",
      summary.dispatches === null
        ? "not counted: only the counting bot on the simulator is"
        : counted(summary),
    ),
    row("events", `${whole(summary.appended)} appended; saved: ${nodes.join(", ")}; ${same}`),
    ...(answers === null
      ? []
      : [
          row(
            "answers",
            `${whole(answers.sent)} asked, ${whole(answers.late)} late, ${whole(answers.never)} never; p50 ${milliseconds(answers.p50Ms)}, p99 ${milliseconds(answers.p99Ms)}`,
          ),
        ]),
    row(
      "sessions",
      `${plural(summary.identifies, "IDENTIFY", "IDENTIFYs")}, ${plural(summary.resumes, "RESUME")}`,
    ),
    ...(summary.handlerErrors > 0 ? [row("bot", plural(summary.handlerErrors, "handler error"))] : []),
    ...(restarts.length > 0 ? [row("restarts", restarts.join(", "))] : []),
    row("memory", memory.join(", ")),
    "",
    ...(summary.problems.length === 0
      ? [summary.dispatches === null ? "  drained" : "  nothing lost, nothing handled twice"]
      : summary.problems.map((problem) => `  WRONG: ${problem}`)),
  ];
  return `${lines.join("\n")}\n`;
}

function counted(summary: Summary): string {
  return `${whole(summary.dispatches!)} sent, ${whole(summary.handled!)} handled; lost ${whole(summary.lost!)}, handled twice ${whole(summary.duplicated!)}`;
}

function row(label: string, text: string): string {
  return `  ${label.padEnd(12)}${text}`;
}
