/**
 * The worker's own guilds under more dispatches than the log can take one by one: two shards' rings are kept full, as
 * after an outage of the log or a RESUME that replays minutes, so mutations coalesce. A mutation counts once both
 * database nodes have saved it; its latency is from dispatch to completion.
 *
 * The gateway is left out on purpose: on a small machine the simulator would be the bottleneck, not the log.
 */
import type { GatewayDispatchPayload } from "discord-api-types/v10";
import counting from "../../src/bots/counting.js";
import { emptyDocument } from "../../src/core/document.js";
import { limits } from "../../src/core/limits.js";
import { GuildLog } from "../../src/nats/guild-log.js";
import { Guilds } from "../../src/worker/guilds.js";
import { Handlers } from "../../src/worker/handlers.js";
import { SavedTracker } from "../../src/worker/saved.js";
import { type Counters, zeroCounters } from "../../src/worker/services.js";
import type { Work } from "../../src/worker/work.js";
import { guildIdAt, quantile, round, SavedWatch, silent, withStage } from "./stage.js";

const shards = 2;
const session = "0123456789abcdef0123456789abcdef";
/** How uneven guilds are, as in the simulator: a tenth of them get two fifths of the dispatches. */
const skew = 2.5;
/** Knuth's multiplicative hash: the n-th dispatch goes to the same guild in every run. */
const golden = 2_654_435_761;
/** Every so many-th dispatch is timed. */
const sampleEvery = 64;

export interface Overload {
  mutationsPerSecond: number;
  eventsPerSecond: number;
  mutationsPerEvent: number;
  clientCpuMicrosPerMutation: number;
  completedP50Ms: number;
  completedP99Ms: number;
  catchUpMs: number;
}

export async function runOverloaded(guildCount: number, ms: number): Promise<Overload> {
  return withStage(async (stage) => {
    await stage.dbnodes();
    const tracker = new SavedTracker();
    const saved = new SavedWatch(await stage.connect("bench saved"), 2, (lowest) => tracker.advance(lowest));
    const guildLog = new GuildLog(await stage.connect("bench overload"), "bench.overload");
    const counters = zeroCounters();
    const guilds = makeGuilds(guildLog, tracker, counters);
    const load = new Load(guilds, guildCount);
    await load.run(500);
    await saved.reached(guildLog.lastSeq);

    const before = { ...counters };
    load.samples.length = 0;
    const cpuBefore = process.cpuUsage();
    const startedAt = performance.now();
    await load.run(ms);
    const completedAt = performance.now();
    const cpu = process.cpuUsage(cpuBefore);
    await saved.reached(guildLog.lastSeq);
    const seconds = (performance.now() - startedAt) / 1_000;
    if (counters.handlerErrors > 0) throw new Error(`${counters.handlerErrors} dispatches failed`);
    const mutations = counters.handled - before.handled;
    const events = counters.appended - before.appended;
    const catchUpMs = Math.round(startedAt + seconds * 1_000 - completedAt);
    guilds.stop();
    guildLog.close();
    return {
      mutationsPerSecond: Math.round(mutations / seconds),
      eventsPerSecond: Math.round(events / seconds),
      mutationsPerEvent: round(mutations / events, 1),
      clientCpuMicrosPerMutation: round((cpu.user + cpu.system) / mutations, 1),
      completedP50Ms: quantile(load.samples, 0.5),
      completedP99Ms: quantile(load.samples, 0.99),
      catchUpMs,
    };
  });
}

/** Keeps the rings full: a dispatch that completes makes room for the next. */
class Load {
  readonly samples: number[] = [];
  readonly #guilds: Guilds;
  readonly #ids: string[];
  #underway = 0;
  #s = 0;

  constructor(guilds: Guilds, guildCount: number) {
    this.#guilds = guilds;
    this.#ids = Array.from({ length: guildCount }, (_, index) => guildIdAt(index));
  }

  /** Resolves when everything given is complete. */
  run(ms: number): Promise<void> {
    const until = performance.now() + ms;
    const capacity = limits.ringSlots * shards;
    return new Promise((resolve) => {
      const fill = (): void => {
        if (performance.now() < until) {
          while (this.#underway < capacity) this.#give();
        } else if (this.#underway === 0) {
          resolve();
          return;
        }
        setImmediate(fill);
      };
      fill();
    });
  }

  #give(): void {
    this.#s += 1;
    this.#underway += 1;
    const s = this.#s;
    const luck = (Math.imul(s, golden) >>> 0) / 2 ** 32;
    const guildId = this.#ids[Math.floor(luck ** skew * this.#ids.length)]!;
    const data = { id: String(100_000_000_000_000_000 + s * 16), guild_id: guildId };
    const payload = { op: 0, t: "MESSAGE_CREATE", s, d: data } as unknown as GatewayDispatchPayload;
    const sampled = s % sampleEvery === 0;
    const givenAt = sampled ? performance.now() : 0;
    const work: Work = {
      payload,
      guildId,
      shard: 0,
      session,
      s,
      receivedAt: Date.now(),
      complete: () => {
        this.#underway -= 1;
        if (sampled) this.samples.push(performance.now() - givenAt);
      },
    };
    this.#guilds.handle(work);
  }
}

function makeGuilds(guildLog: GuildLog, tracker: SavedTracker, counters: Counters): Guilds {
  const unused = (): never => {
    throw new Error("the counting of messages sends nothing");
  };
  const client = { get: unused, post: unused, put: unused, patch: unused, delete: unused };
  const services = {
    bot: counting,
    handlers: new Handlers(counting, client, silent),
    guildLog,
    log: silent,
    counters,
    now: () => performance.now(),
    // The log is new: it knows none of them.
    load: () => Promise.resolve(emptyDocument()),
    send: () => Promise.resolve(),
    resend: () => Promise.resolve(),
    appended: (guildId: string, seq: number) => {
      counters.appended += 1;
      tracker.appended(guildId, seq);
    },
    shardOf: () => 0,
    isOurs: () => true,
    stateMaxBytes: () => guildLog.maxPayloadBytes - limits.messageHeadroomBytes,
    later: (run: () => void) => void setTimeout(run, 1_000),
  };
  return new Guilds(services, tracker, limits.memoryBudgetBytes);
}
