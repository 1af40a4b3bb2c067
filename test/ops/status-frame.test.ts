/** The cluster on one screen: what is shown, that it fits, that problems come last and say what to do. */
import test from "ava";
import type { WorkerEntry } from "../../src/core/members.js";
import { problemsOf } from "../../src/ops/problems.js";
import type { ClusterStatus, DbnodeStatus, ShardStatus, WorkerStatus } from "../../src/ops/status.js";
import { names, ranges } from "../../src/ops/view/format.js";
import { renderStatus, renderStatusLine } from "../../src/ops/view/status-frame.js";
import { table } from "../../src/ops/view/table.js";

function worker(n: number, change: Partial<WorkerStatus> = {}): WorkerStatus {
  return {
    id: `worker-${n}`,
    incarnation: `life-${n}`,
    status: "ready",
    version: "0.1.0",
    host: `machine-${n}`,
    pid: 4_000 + n,
    at: 1_800_000_000_000,
    rssBytes: 120_400_000,
    bot: "community",
    shards: [],
    offline: { connecting: [], identifying: [], paused: [] },
    noted: [],
    successor: "",
    savedBy: 2,
    backpressure: false,
    guilds: 1_250,
    dirtyGuilds: 3,
    dispatches: 0,
    handled: 0,
    skipped: 0,
    appended: 0,
    handlerErrors: 0,
    effectsSent: 0,
    effectsDropped: 0,
    fenced: 0,
    identifies: 0,
    resumes: 0,
    queued: 0,
    revision: 1,
    live: true,
    silentMs: 0,
    handledPerS: 212.4,
    ...change,
  };
}

function dbnode(n: number, change: Partial<DbnodeStatus> = {}): DbnodeStatus {
  return {
    id: `dbnode-${n}`,
    incarnation: `life-${n}`,
    status: "ready",
    version: "0.1.0",
    host: `machine-${n}`,
    pid: 5_000 + n,
    at: 1_800_000_000_000,
    rssBytes: 126_000_000,
    received: 3_863,
    saved: 3_860,
    streamLast: 3_863,
    streamCreated: "2026-01-01",
    guilds: 1_766,
    quarantined: 0,
    checksum: "8ec31c73f56f1985",
    revision: 1,
    live: true,
    silentMs: 0,
    lag: 3,
    ...change,
  };
}

function shards(connections: ShardStatus["connection"][]): ShardStatus[] {
  return connections.map((connection, shard) => ({ shard, owner: "worker-1", connection }));
}

const calm: ClusterStatus = {
  at: Date.parse("2026-01-01T12:00:00"),
  natsAwayMs: 0,
  nats: { server: "127.0.0.1:4222", version: "2.15.1" },
  log: { messages: 3_863, bytes: 2_000_000, lastSeq: 3_863, guilds: 1_766, replicas: 1, behind: [] },
  topology: { epoch: 1, shardCount: 6 },
  shards: shards(["connected", "connected", "connected", "connected", "connected", "connected"]),
  unserved: [],
  workers: [worker(1, { shards: [0, 1, 2] }), worker(2, { shards: [3, 4, 5], handledPerS: null })],
  dbnodes: [dbnode(1), dbnode(2, { saved: 3_863, lag: 0, checksum: "" })],
  identify: {
    total: 1_000,
    remaining: 985,
    kept: 10,
    resetInMs: 83_400_000,
    maxConcurrency: 4,
    waiting: [],
    buckets: [{ bucket: 0, shard: 4, by: "worker-2" }],
  },
  problems: [],
};

function shown(change: Partial<ClusterStatus>, columns = 160, rows?: number): string {
  const status = { ...calm, ...change };
  const room = rows === undefined ? { columns } : { columns, rows };
  return renderStatus({ ...status, problems: problemsOf(status) }, room).join("\n");
}

test("a calm cluster on one screen", (t) => {
  t.is(
    shown({}),
    `guildstream 12:00:00   nats-server 2.15.1 at 127.0.0.1:4222
guild log   1,766 guilds   3,863 messages   2 MB   up to 3,863
shards      6 in epoch 1   all connected
identifies  985 of 1,000 left (10 kept back)   reset in 23:10:00   4 buckets

worker    status  shards  handled/s  guilds  unsaved  queued  memory  version  host        pid  bot
worker-1  ready   0-2           212   1,250        3       0  120 MB  0.1.0    machine-1  4001  community
worker-2  ready   3-5             –   1,250        3       0  120 MB  0.1.0    machine-2  4002  community

database node  status  received  saved  behind  quarantined  guilds  memory  version  host        pid  state
dbnode-1       ready      3,863  3,860       3            0   1,766  126 MB  0.1.0    machine-1  5001  8ec31c73f56f1985
dbnode-2       ready      3,863  3,863       0            0   1,766  126 MB  0.1.0    machine-2  5002

no problems`,
  );
});

test("a troubled one: what is off is named where it belongs, and at the end with what to do", (t) => {
  const text = shown({
    shards: shards(["connected", "connecting", "identifying", "paused", "unserved", "unserved"]),
    unserved: [4, 5],
    workers: [
      worker(1, {
        shards: [0, 1, 2, 3],
        offline: { connecting: [1], identifying: [2], paused: [3] },
        handlerErrors: 2,
      }),
      worker(2, { shards: [4, 5], live: false }),
    ],
    dbnodes: [dbnode(1, { quarantined: 1 }), dbnode(2, { checksum: "0000000000000000" })],
    identify: { ...calm.identify!, remaining: 10, waiting: [2] },
  });
  t.regex(
    text,
    /shards +6 in epoch 1 +1 connected +1 connecting \(1\) +1 identifying \(2\) +1 paused \(3\) +2 unserved \(4-5\)/,
  );
  t.regex(text, /worker-1 +ready +0-3 \(3 off\)/);
  t.regex(text, /worker-2 +SILENT +4-5 +– /);
  const [, end] = text.split(/^7 problems$/m) as [string, string];
  t.regex(end, /NOT SERVED: shards 4-5: no live worker has them\n {4}live workers claim them within 7 s/);
  t.regex(end, /SILENT: worker worker-2: no heartbeat comes\n.*start it again under the same --id/);
  t.regex(end, /QUARANTINED: .*dbnode-1\n/);
  t.regex(end, /WRONG: database nodes that saved the same events/);
  t.regex(
    end,
    /daily limit of new sessions is spent, none is begun for 23:10:00; shards 2 wait for the reset\n/,
  );
  t.regex(end, /queue was full: shards 3\n/);
  t.regex(end, /2 handler errors since the start of worker-1\n.*handler_failed/);
  t.is(end.trim().split("\n").length, 14, "each has its line of what to do");
});

test("a hotboot is followed while it goes on, and told of when it came to nothing", (t) => {
  const hotboot = {
    attempt: 1,
    step: "handing",
    dryRun: false,
    to: "worker-1_x",
    shardsMoved: 1,
    shardsTotal: 4,
    guildsMoved: 1_000,
    guildsTotal: 2_500,
    pauseP50Ms: 0.4,
    pauseP99Ms: 4,
    pauseMaxMs: 7,
    elapsedMs: 3_000,
    handingMs: 2_000,
  };
  const workers = (changed: object) => ({ workers: [worker(1, { hotboot: { ...hotboot, ...changed } })] });
  t.regex(
    shown(workers({})),
    /hotboot +worker-1 {3}handing {3}1,000 of 2,500 guilds {3}1 of 4 sessions {3}pause p50 0.4 ms, p99 4.0 ms {3}00:03 left/,
  );
  t.regex(
    shown(workers({ step: "staying", reason: "not today" })),
    /hotboot +worker-1 {3}came to nothing: not today/,
  );
  t.notRegex(shown({}), /hotboot/);
});

test("an empty cluster says what comes first", (t) => {
  const text = shown({ topology: null, shards: [], workers: [], dbnodes: [], identify: null });
  t.regex(
    text,
    /shards +none yet\nidentifies +nobody has asked Discord yet\n\nno workers\n\nno database nodes/,
  );
  t.regex(text, /npm run worker -- --bot FILE/);
  t.regex(text, /npm run dbnode -- --data DIR/);
});

test("while NATS is away the last look stays, with its age", (t) => {
  const text = shown({ natsAwayMs: 65_000 });
  t.regex(text, /worker-1 +ready/);
  t.regex(text, /1 problem\n {2}NATS DOES NOT ANSWER for 01:05: all this is how it was before\n/);
  t.regex(
    renderStatusLine({ ...calm, problems: problemsOf({ ...calm, natsAwayMs: 65_000 }) }),
    /NATS DOES NOT ANSWER/,
  );
});

test("a day that is over is no problem", (t) => {
  const text = shown({ identify: { ...calm.identify!, remaining: 0, resetInMs: 0 } });
  t.regex(text, /0 of 1,000 left \(10 kept back\) +counted before the last reset/);
  t.regex(text, /no problems/);
});

const many = {
  topology: { epoch: 1, shardCount: 512 },
  shards: shards(Array.from({ length: 512 }, () => "connected" as const)),
  // Every other shard: no two are neighbours.
  workers: Array.from({ length: 16 }, (_, n) =>
    worker(n, { shards: Array.from({ length: 32 }, (_, i) => 2 * i + (n % 2)), live: n !== 7 }),
  ),
  dbnodes: Array.from({ length: 4 }, (_, n) => dbnode(n)),
};

test("twenty members fit into forty lines, also with some of them silent", (t) => {
  const lines = shown(many).split("\n");
  t.true(lines.length <= 40, `${lines.length} lines`);
  t.regex(lines.join("\n"), /worker-9 +ready +1 3 5 7 9 11 13 15 17 … of 32 +212/);
});

test("no line is wider than the terminal; columns go whole, the least important first", (t) => {
  for (const columns of [20, 40, 60, 80, 100, 120]) {
    for (const line of shown(many, columns).split("\n")) t.true(line.length <= columns, line);
  }
  const narrow = shown({}, 80);
  t.regex(narrow, /worker +status +shards +handled\/s +guilds +unsaved +queued +memory +host/);
  t.notRegex(narrow, /version|community/);
  t.regex(shown({}, 40), /worker-1 +ready +0-2\b/);
});

test("on a small terminal members fold and the problems stay in sight", (t) => {
  for (const rows of [16, 24, 40]) {
    const lines = shown(many, 120, rows).split("\n");
    t.true(lines.length <= rows, `${lines.length} lines of ${rows}`);
    t.regex(lines.slice(-4).join("\n"), /SILENT: worker worker-7/);
    if (rows < 30) t.regex(lines.join("\n"), /… and \d+ more/);
  }
});

test("what is to be done is broken between words, not cut; names do not steer the terminal", (t) => {
  const text = shown({ ...many, workers: [worker(1, { live: false, host: "\u001b[2J" })] }, 60);
  t.regex(
    text,
    /\n {4}see whether the process still runs on its host; start it\n {4}again under .*\n.*after a while$/,
  );
  t.false(shown({ workers: [worker(1, { host: "\u001b[2J" })] }).includes("\u001b"));
});

test("one line for logs and pipes has the same in short", (t) => {
  const line = renderStatusLine(calm);
  t.is(
    line,
    "12:00:00 | shards 6 of 6 connected | workers 2 of 2 live | database nodes 2 of 2 live | 212 handled/s | log up to 3,863 | behind 3 | identifies 985 of 1,000 left",
  );
  const silent = { ...calm, workers: [worker(1, { live: false })] };
  t.regex(
    renderStatusLine({ ...silent, problems: problemsOf(silent) }),
    /workers 0 of 1 live.*SILENT: worker worker-1/,
  );
});

test("long lists fold by whole parts", (t) => {
  t.is(ranges([]), "");
  t.is(ranges([0, 1, 2, 5, 7, 8]), "0-2 5 7-8");
  t.is(ranges([10, 20, 30, 40], 100), "10 20 30 40");
  for (let lengthMax = 8; lengthMax < 40; lengthMax += 1) {
    const text = ranges([100, 200, 300, 400, 500, 600, 700, 800], lengthMax);
    t.true(text.length <= Math.max(lengthMax, "… of 8".length), text);
    t.regex(text, /^(\d00 )*(\d00|… of 8)$/);
  }
  t.is(names(["a", "b"]), "a, b");
});

test("a table keeps its rank 0 columns and says how many rows it left out", (t) => {
  const columns = [
    { title: "name", text: (row: WorkerEntry) => row.id, rank: 0 },
    { title: "guilds", text: (row: WorkerEntry) => String(row.guilds), isNumber: true, rank: 1 },
  ];
  t.deepEqual(table(columns, [worker(1), worker(22)], 40), [
    "name       guilds",
    "worker-1     1250",
    "worker-22    1250",
  ]);
  t.deepEqual(table(columns, [worker(1), worker(22)], 10), ["name", "worker-1", "worker-22"]);
  t.deepEqual(table(columns, [worker(1), worker(2), worker(3)], 40, 2), [
    "name      guilds",
    "worker-1    1250",
    "… and 2 more",
  ]);
});
