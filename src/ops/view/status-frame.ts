/**
 * Owns what `guildstream status` shows: a look at the cluster in, lines out. Pure; view/terminal.ts draws them.
 * Members fold before anything else does when the terminal is small: the problems at the end are what it is for.
 */
import { type ClusterStatus, type DbnodeStatus, shardsThatAre, type WorkerStatus } from "../status.js";
import { cut, duration, megabytes, plural, ranges, whole, wrap } from "./format.js";
import { hotbootText } from "./hotboot-text.js";
import { type Column, table } from "./table.js";

export interface Room {
  columns: number;
  /** Lines there are; without it as many as it takes. */
  rows?: number;
}

const labelWidth = 12;
const shardsLengthMax = 30;

const workerColumns: Column<WorkerStatus>[] = [
  { title: "worker", text: ({ id }) => id, rank: 0 },
  { title: "status", text: shownStatus, rank: 0 },
  { title: "shards", text: workerShards, rank: 0 },
  { title: "handled/s", text: rate, isNumber: true, rank: 1 },
  { title: "guilds", text: ({ guilds }) => whole(guilds), isNumber: true, rank: 2 },
  { title: "unsaved", text: ({ dirtyGuilds }) => whole(dirtyGuilds), isNumber: true, rank: 1 },
  { title: "queued", text: ({ queued }) => whole(queued), isNumber: true, rank: 3 },
  { title: "memory", text: ({ rssBytes }) => megabytes(rssBytes), isNumber: true, rank: 4 },
  { title: "version", text: ({ version }) => version, rank: 7 },
  { title: "host", text: ({ host }) => host, rank: 5 },
  { title: "pid", text: ({ pid }) => String(pid), isNumber: true, rank: 6 },
  { title: "bot", text: ({ bot }) => bot, rank: 8 },
];

const dbnodeColumns: Column<DbnodeStatus>[] = [
  { title: "database node", text: ({ id }) => id, rank: 0 },
  { title: "status", text: shownStatus, rank: 0 },
  { title: "received", text: ({ received }) => whole(received), isNumber: true, rank: 2 },
  { title: "saved", text: ({ saved }) => whole(saved), isNumber: true, rank: 1 },
  { title: "behind", text: ({ lag }) => whole(lag), isNumber: true, rank: 0 },
  { title: "quarantined", text: ({ quarantined }) => whole(quarantined), isNumber: true, rank: 1 },
  { title: "guilds", text: ({ guilds }) => whole(guilds), isNumber: true, rank: 3 },
  { title: "memory", text: ({ rssBytes }) => megabytes(rssBytes), isNumber: true, rank: 4 },
  { title: "version", text: ({ version }) => version, rank: 7 },
  { title: "host", text: ({ host }) => host, rank: 5 },
  { title: "pid", text: ({ pid }) => String(pid), isNumber: true, rank: 6 },
  { title: "state", text: ({ checksum }) => checksum, rank: 8 },
];

/** The whole cluster on one screen, each line at most as wide as there is room. */
export function renderStatus(status: ClusterStatus, { columns, rows }: Room): string[] {
  const head = headLines(status);
  const problems = problemLines(status, columns);
  const { workers, dbnodes } = status;
  // Two empty lines and two titles around the members.
  const forMembers = (rows ?? Number.POSITIVE_INFINITY) - head.length - problems.length - 4;
  const nodesMax = Math.max(1, Math.min(dbnodes.length, Math.floor(forMembers / 3)));
  const workersMax = Math.max(1, forMembers - nodesMax);
  const lines = [
    ...head,
    "",
    ...(workers.length === 0 ? ["no workers"] : table(workerColumns, workers, columns, workersMax)),
    "",
    ...(dbnodes.length === 0 ? ["no database nodes"] : table(dbnodeColumns, dbnodes, columns, nodesMax)),
    ...problems,
  ];
  return lines.map((line) => cut(printable(line), columns));
}

/** The same in one line, for logs and pipes. */
export function renderStatusLine(status: ClusterStatus): string {
  const { shards, workers, dbnodes, identify, log } = status;
  const connected = shardsThatAre(shards, "connected").length;
  const live = (members: readonly { live: boolean }[]): string =>
    `${members.filter((member) => member.live).length} of ${members.length}`;
  const handled = workers.reduce((sum, worker) => sum + (worker.live ? (worker.handledPerS ?? 0) : 0), 0);
  const parts = [
    time(status.at),
    `shards ${connected} of ${shards.length} connected`,
    `workers ${live(workers)} live`,
    `database nodes ${live(dbnodes)} live`,
    `${whole(handled)} handled/s`,
    `log up to ${whole(log.lastSeq)}`,
    `behind ${whole(Math.max(0, ...dbnodes.filter((node) => node.live).map((node) => node.lag)))}`,
    ...(identify === null
      ? []
      : [`identifies ${whole(identify.remaining)} of ${whole(identify.total)} left`]),
    ...status.problems.map(({ problem }) => problem),
  ];
  return printable(parts.join(" | "));
}

/** Names are what other machines say they are: nothing of them steers this terminal. */
function printable(line: string): string {
  return line.replace(/\p{Cc}/gu, "?");
}

function headLines(status: ClusterStatus): string[] {
  const { nats, log } = status;
  const replicas = log.replicas === 1 ? "" : `   ${plural(log.replicas, "replica")}`;
  return [
    `guildstream ${time(status.at)}   nats-server ${nats.version} at ${nats.server}`,
    row(
      "guild log",
      `${plural(log.guilds, "guild")}   ${plural(log.messages, "message")}   ${megabytes(log.bytes)}   up to ${whole(log.lastSeq)}${replicas}`,
    ),
    row("shards", shardsText(status)),
    row("identifies", identifyText(status)),
    ...status.workers.flatMap(({ id, live, hotboot }) => {
      const text = live ? hotbootText(hotboot) : undefined;
      return text === undefined ? [] : [row("hotboot", `${id}   ${text}`)];
    }),
  ];
}

function shardsText({ topology, shards }: ClusterStatus): string {
  if (topology === null) return "none yet";
  const parts = [`${whole(topology.shardCount)} in epoch ${topology.epoch}`];
  for (const connection of ["connected", "connecting", "identifying", "paused", "unserved"] as const) {
    const those = shardsThatAre(shards, connection);
    if (those.length === 0) continue;
    const isAll = those.length === shards.length;
    const which = connection === "connected" || isAll ? "" : ` (${ranges(those, shardsLengthMax)})`;
    parts.push(`${isAll ? "all" : whole(those.length)} ${connection}${which}`);
  }
  return parts.join("   ");
}

function identifyText({ identify }: ClusterStatus): string {
  if (identify === null) return "nobody has asked Discord yet";
  const { remaining, total, kept, resetInMs, maxConcurrency, waiting } = identify;
  return [
    `${whole(remaining)} of ${whole(total)} left${kept > 0 ? ` (${whole(kept)} kept back)` : ""}`,
    resetInMs > 0 ? `reset in ${duration(resetInMs / 1_000)}` : "counted before the last reset",
    plural(maxConcurrency, "bucket"),
    ...(waiting.length > 0 ? [`waiting ${ranges(waiting, shardsLengthMax)}`] : []),
  ].join("   ");
}

function problemLines({ problems }: ClusterStatus, columns: number): string[] {
  if (problems.length === 0) return ["", "no problems"];
  return [
    "",
    plural(problems.length, "problem"),
    ...problems.flatMap(({ problem, todo }) => [
      ...wrap(problem, columns, "  "),
      ...wrap(todo, columns, "    "),
    ]),
  ];
}

function shownStatus({ live, status }: { live: boolean; status: string }): string {
  return live || status === "offline-temporary" ? status : "SILENT";
}

function workerShards({ shards, offline }: WorkerStatus): string {
  const off = offline.connecting.length + offline.identifying.length + offline.paused.length;
  const list = shards.length === 0 ? "none" : ranges(shards, shardsLengthMax);
  return off === 0 ? list : `${list} (${whole(off)} off)`;
}

function rate({ live, handledPerS }: WorkerStatus): string {
  return live && handledPerS !== null ? whole(handledPerS) : "–";
}

function time(at: number): string {
  return new Date(at).toTimeString().slice(0, 8);
}

function row(label: string, text: string): string {
  return `${label.padEnd(labelWidth)}${text}`;
}
