/** The live view's lines: what is shown, that it fits, that it never claims what is not known. */
import test from "ava";
import { type Picture, renderFrame, renderLine } from "../../src/ops/view/frame.js";

const picture: Picture = {
  phase: "running",
  elapsedS: 3_725,
  guilds: 2_500,
  dispatchesPerS: 199.6,
  dispatches: 123_456,
  appendedPerS: 180,
  appended: 100_000,
  streamLast: 100_500,
  dbnodes: [
    { id: "dbnode-1", live: true, received: 100_500, saved: 100_488 },
    { id: "dbnode-2", live: false, received: 0, saved: 0 },
  ],
  workers: [
    {
      id: "worker-1",
      live: true,
      shards: [0, 1, 2, 5],
      guilds: 2_500,
      dirtyGuilds: 3,
      savedBy: 2,
      backpressure: false,
      queued: 0,
      rssBytes: 120_400_000,
    },
  ],
  answers: { sent: 900, late: 0, never: 0, p50Ms: 1.23, p99Ms: 14.6 },
  check: { guilds: 0, lost: 0, duplicated: 0 },
  notes: ["12:00:01 dbnode-2 ended (SIGKILL); starting it again"],
};

test("the frame shows the system at one look", (t) => {
  const text = renderFrame(picture, 120).join("\n");
  t.regex(text, /guildstream {2}running {2}1:02:05/);
  t.regex(text, /discord +2,500 guilds +200 dispatches\/s +123,456 in all/);
  t.regex(text, /log +180 events\/s +100,000 appended/);
  t.regex(text, /dbnode-1 +received all +saved -12/);
  t.regex(text, /dbnode-2 +not running/);
  t.regex(text, /answers +p50 1.2 ms +p99 15 ms/);
  t.regex(text, /worker-1 +shards 0-2 5 +2,500 guilds in memory, 3 unsaved +120 MB/);
  t.regex(text, /starting it again/);
});

test("a worker that nobody saves for, or that is full, says so", (t) => {
  t.notRegex(renderFrame(picture, 200).join("\n"), /DATABASE|FULL/);
  const workers = picture.workers.map((worker) => ({ ...worker, savedBy: 0, backpressure: true }));
  const text = renderFrame({ ...picture, workers }, 200).join("\n");
  t.regex(text, /worker-1 .* 120 MB +NO DATABASE NODE +MEMORY FULL, dispatches wait/);
});

test("no line is wider than the terminal", (t) => {
  for (const columns of [20, 40, 79]) {
    for (const line of renderFrame(picture, columns)) t.true(line.length <= columns);
  }
});

test("one line says the same for logs", (t) => {
  const line = renderLine(picture);
  t.regex(line, /^1:02:05 running \| 200 dispatches\/s \| 180 events\/s/);
  t.regex(line, /dbnode-1 saved -12/);
  t.false(line.includes("\n"));
});

test("nothing is said to be lost or not while nothing has been compared", (t) => {
  const text = renderFrame(picture, 120).join("\n");
  t.regex(text, /check +all guilds at the end/);
  t.regex(renderFrame({ ...picture, check: undefined }, 120).join("\n"), /not counted here/);
});

test("late and missing answers show only when there are some", (t) => {
  t.notRegex(renderLine(picture), /late/);
  const answers = { ...picture.answers!, late: 1, never: 2 };
  t.regex(renderLine({ ...picture, answers }), /1 late, 2 never/);
});
