/**
 * Owns what the live view shows: a picture of the running system in, lines out. Pure; view/terminal.ts draws them.
 *
 * Lost and handled twice are known for certain only once everything is saved, so while it runs the view says what has
 * been compared so far, and nothing else.
 */
import type { HotbootProgress } from "../../core/members.js";
import { cut, duration, megabytes, milliseconds, plural, ranges, whole } from "./format.js";
import { hotbootText } from "./hotboot-text.js";

export interface NodePicture {
  id: string;
  live: boolean;
  received: number;
  saved: number;
}

export interface WorkerPicture {
  id: string;
  live: boolean;
  shards: readonly number[];
  guilds: number;
  dirtyGuilds: number;
  queued: number;
  rssBytes: number;
  savedBy: number;
  backpressure: boolean;
  hotboot?: HotbootProgress | undefined;
}

/** The running system at one moment. */
export interface Picture {
  phase: string;
  elapsedS: number;
  /** Of the Discord this runs on; undefined while unknown. */
  guilds: number | undefined;
  dispatchesPerS: number;
  dispatches: number;
  appendedPerS: number;
  appended: number;
  /** Where the guild log ends. */
  streamLast: number;
  dbnodes: readonly NodePicture[];
  workers: readonly WorkerPicture[];
  answers:
    | { sent: number; late: number; never: number; p50Ms: number | null; p99Ms: number | null }
    | undefined;
  /** What the sample of guilds has shown so far; undefined where nothing can be compared. */
  check: { guilds: number; lost: number; duplicated: number } | undefined;
  notes: readonly string[];
}

const labelWidth = 12;

/** The frame, each line at most `columns` wide. */
export function renderFrame(picture: Picture, columns: number): string[] {
  const { answers, dbnodes, workers } = picture;
  const guilds = picture.guilds === undefined ? "" : `${plural(picture.guilds, "guild")}   `;
  const lines = [
    `guildstream  ${picture.phase}  ${duration(picture.elapsedS)}`,
    "",
    row(
      "discord",
      `${guilds}${whole(picture.dispatchesPerS)} dispatches/s   ${whole(picture.dispatches)} in all`,
    ),
    row("log", `${whole(picture.appendedPerS)} events/s   ${whole(picture.appended)} appended`),
    ...dbnodes.map((node) => row(node.id, nodeText(node, picture.streamLast))),
    row("answers", answersText(answers)),
    row("check", checkText(picture.check)),
    ...workers.flatMap((worker) => {
      const hotboot = hotbootText(worker.hotboot);
      return [
        row(worker.id, workerText(worker)),
        ...(hotboot === undefined ? [] : [row("", `hotboot: ${hotboot}`)]),
      ];
    }),
    ...(picture.notes.length > 0 ? ["", ...picture.notes.map((note) => `  ${note}`)] : []),
    "",
    "  Ctrl-C drains, checks and ends",
  ];
  return lines.map((line) => cut(line, columns));
}

/** The same in one line, for logs and pipes. */
export function renderLine(picture: Picture): string {
  const lags = picture.dbnodes.map(
    (node) => `${node.id} saved -${whole(lag(picture.streamLast, node.saved))}`,
  );
  const parts = [
    `${duration(picture.elapsedS)} ${picture.phase}`,
    `${whole(picture.dispatchesPerS)} dispatches/s`,
    `${whole(picture.appendedPerS)} events/s`,
    ...lags,
    ...(picture.answers === undefined ? [] : [`answers ${answersText(picture.answers)}`]),
    ...(picture.check === undefined ? [] : [`check ${checkText(picture.check)}`]),
  ];
  return parts.join(" | ").replace(/ {2,}/g, ", ");
}

function nodeText(node: NodePicture, streamLast: number): string {
  if (!node.live) return "not running";
  return `received ${behind(lag(streamLast, node.received))}   saved ${behind(lag(streamLast, node.saved))}`;
}

function workerText(worker: WorkerPicture): string {
  if (!worker.live) return "not running";
  const shards = worker.shards.length === 0 ? "no shards" : `shards ${ranges(worker.shards)}`;
  const queued = worker.queued > 0 ? `   ${whole(worker.queued)} waiting` : "";
  const alone = worker.savedBy === 0 ? "   NO DATABASE NODE" : "";
  const full = worker.backpressure ? "   MEMORY FULL, dispatches wait" : "";
  return `${shards}   ${plural(worker.guilds, "guild")} in memory, ${whole(worker.dirtyGuilds)} unsaved   ${megabytes(worker.rssBytes)}${queued}${alone}${full}`;
}

function answersText(answers: Picture["answers"]): string {
  if (answers === undefined) return "–";
  const bad = answers.late + answers.never > 0 ? `   ${answers.late} late, ${answers.never} never` : "";
  return `p50 ${milliseconds(answers.p50Ms)}   p99 ${milliseconds(answers.p99Ms)}   ${whole(answers.sent)} asked${bad}`;
}

function checkText(check: Picture["check"]): string {
  if (check === undefined) return "not counted here";
  if (check.guilds === 0) return "all guilds at the end";
  return `lost ${whole(check.lost)}   handled twice ${whole(check.duplicated)}   in ${plural(check.guilds, "look")} at guilds, all at the end`;
}

/** Between two readings of moving numbers a node can seem ahead; that is no lag. */
function lag(streamLast: number, at: number): number {
  return Math.max(0, streamLast - at);
}

function behind(count: number): string {
  return count === 0 ? "all" : `-${whole(count)}`;
}

function row(label: string, text: string): string {
  return `  ${label.padEnd(labelWidth)}${text}`;
}
