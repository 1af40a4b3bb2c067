/**
 * How long a dispatch takes through the whole system under everyday traffic: to the answer at Discord, into the log,
 * onto the disks.
 *
 * Times: a dispatch's own id says when the simulator made it (whole milliseconds, so half of one is taken off on
 * average); the stream says when the server stored the event; a database node's announcement, as heard here, says
 * when the event was on its disk.
 */
import { setTimeout as delay } from "node:timers/promises";
import { consumerOpts } from "nats";
import { snowflakeTimeMs } from "../../src/core/ids.js";
import { type BenchContext, quantile, round, SavedWatch, type Stage, until, withStage } from "./stage.js";

export const name = "latency";
export const description = "dispatch -> answer, -> appended, -> saved on disk, at 2,500 guilds and 200/s";
export const aims = { answerP50Ms: { atMost: 2 } };

const guilds = 2_500;
const shards = 2;
const seed = 1;
const ratePerSecond = 200;
/** An id has whole milliseconds: what happened is half of one later on average. */
const idRoundingMs = 0.5;

interface Seen {
  dispatchedAt: number;
  storedAt: number;
  seq: number;
}

export async function run({ quick, log }: BenchContext): Promise<object> {
  const seconds = quick ? 6 : 20;
  return withStage(async (stage) => {
    await stage.dbnodes();
    const simulator = await stage.simulator(guilds, shards, seed);
    await stage.worker("counting", simulator, shards).ready;
    const list = await stage.list();
    await until("the worker has every guild", () => (list.workers().get("worker-1")?.guilds ?? 0) >= guilds);
    log(`${guilds} guilds, seed ${seed}, ${ratePerSecond}/s for ${seconds} s`);

    const seen = await watchEvents(stage);
    const saved = new SavedWatch(await stage.connect("bench saved"), 2);
    await simulator.setTraffic({ running: true, ratePerSecond });
    await delay(seconds * 1_000);
    await simulator.setTraffic({ running: false });
    await until("the events are saved", () => saved.lowest >= (seen.at(-1)?.seq ?? 0));
    const { answers } = await simulator.stats();

    const appendedMs = seen.map((event) => event.storedAt - event.dispatchedAt);
    const byFirst = seen.map((event) => savedAfter(saved, event, 1));
    const byAll = seen.map((event) => savedAfter(saved, event, saved.nodes));
    return {
      seed,
      guilds,
      ratePerSecond,
      events: seen.length,
      answers: answers.answeredInTime,
      answersLate: answers.late + answers.never,
      answerP50Ms: round(answers.p50Ms ?? Number.NaN),
      answerP99Ms: round(answers.p99Ms ?? Number.NaN),
      appendedP50Ms: quantile(appendedMs, 0.5),
      appendedP99Ms: quantile(appendedMs, 0.99),
      savedByFirstP50Ms: quantile(byFirst, 0.5),
      savedByFirstP99Ms: quantile(byFirst, 0.99),
      savedByAllP50Ms: quantile(byAll, 0.5),
      savedByAllP99Ms: quantile(byAll, 0.99),
    };
  });
}

/** Follows the log from here on; keeps the events whose cause says when it was dispatched. */
async function watchEvents(stage: Stage): Promise<Seen[]> {
  const nc = await stage.connect("bench events");
  const seen: Seen[] = [];
  const options = consumerOpts().orderedConsumer().deliverNew();
  options.callback((_error, msg) => {
    if (msg === null) return;
    const { cause } = msg.json<{ cause?: { id?: string } }>();
    if (cause?.id === undefined) return;
    const dispatchedAt = snowflakeTimeMs(cause.id) + idRoundingMs;
    seen.push({ dispatchedAt, storedAt: msg.info.timestampNanos / 1_000_000, seq: msg.seq });
  });
  await nc.jetstream().subscribe("guild.>", options);
  return seen;
}

/** From its dispatch until so many nodes had announced a sequence that covers the event. */
function savedAfter(saved: SavedWatch, event: Seen, nodes: number): number {
  const covering = new Set<string>();
  for (let index = firstAfter(saved, event.storedAt); index < saved.heard.length; index += 1) {
    const { id, saved: seq, at } = saved.heard[index]!;
    if (seq >= event.seq) covering.add(id);
    if (covering.size >= nodes) return at - event.dispatchedAt;
  }
  return Number.NaN;
}

function firstAfter({ heard }: SavedWatch, at: number): number {
  let low = 0;
  let high = heard.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (heard[middle]!.at < at) low = middle + 1;
    else high = middle;
  }
  return low;
}
