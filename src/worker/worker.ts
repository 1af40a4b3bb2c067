/**
 * Owns the worker: its place in the list-server, one life after the other, booting and leaving truthfully.
 *
 * One way through: gateway -> ring -> guild -> log -> effects. Back come acks and the list's changes only.
 *
 * A worker that was frozen or cut off finds its shards claimed by others: it was taken for dead. It drops everything at
 * once, closes its connections without ending the sessions, and begins a new life with a new incarnation.
 *
 * Called by the command line. What happens when the process dies: life.ts and cluster/membership.md.
 */
import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import type { RESTPutAPIApplicationCommandsJSONBody } from "discord-api-types/v10";
import { IdentifyBudget } from "../cluster/identify.js";
import { allNoted, leavers, noteAtOnce } from "../cluster/leaving.js";
import { ClusterList } from "../cluster/list.js";
import type { AnyBot, Logger } from "../core/bot.js";
import { GuildstreamError, messageOf } from "../core/errors.js";
import type { HandoffRole } from "../core/handoff.js";
import { limits } from "../core/limits.js";
import { type MemberStatus, nextStatus, type TopologyEntry, type WorkerEntry } from "../core/members.js";
import { clusterKeys } from "../core/subjects.js";
import { createRest, type DiscordRest } from "../discord/rest.js";
import { answerAsks, askWorker } from "../nats/ask.js";
import type { NatsConnection } from "../nats/connect.js";
import { HotbootChild } from "./hotboot/child.js";
import { garbageCollector } from "./hotboot/garbage.js";
import type { Successor } from "./hotboot/parent.js";
import { Succession } from "./hotboot/succession.js";
import { Life } from "./life.js";
import { zeroCounters } from "./services.js";

export interface WorkerOptions {
  id: string;
  nc: NatsConnection;
  /** Base URL of Discord's API, without the version: https://discord.com/api */
  discordApi: string;
  token: string;
  bot: AnyBot;
  /** How many shards the cluster has; only the first worker of a cluster decides. */
  shards: number | "auto";
  memoryBytes: number;
  version: string;
  log: Logger;
  /** Where the last list is kept, for a boot at which the list-server does not answer. */
  listCacheFile?: string;
  /** Take over from the running worker of this id (hotboot) instead of joining beside it. */
  isSuccessor?: boolean;
  /** Starts a process that takes over from this one; rejects where nobody could. */
  spawnSuccessor?: () => Promise<Successor>;
  /** Collect garbage after so many guilds have moved to a successor; 0: never by hand. */
  gcEveryGuilds?: number;
  /** Aborted when the process is to stop, also while it boots as a successor. */
  stop?: AbortSignal;
  /** Told of every step of a handoff or a hotboot, as `role:step`. */
  onHandoffStep?: (step: string) => void;
  /** Discord's 5 s between IDENTIFYs; shorter only where a simulator's is. */
  identifyIntervalMs?: number;
}

export interface StopOptions {
  /** The worker will be back under its id: the others keep its shards for it for a while. */
  temporary?: boolean;
}

export interface RunningWorker {
  /** Every shard that this worker claimed at boot is connected. */
  ready: Promise<void>;
  /** Rejects on what cannot be mended by waiting: a wrong token, a taken id. */
  failed: Promise<never>;
  /** A hotboot that was asked for over NATS, or by the child itself, has come to its end: nothing is left here. */
  replaced: Promise<void>;
  status(): WorkerEntry;
  /**
   * Hands everything to a successor that runs the code as it is on disk now. Resolves once nothing is left here.
   * @throws GuildstreamError HOTBOOT_FAILED, HOTBOOT_REFUSED, HOTBOOT_DISMISSED (a dry run): going on as before.
   */
  hotboot(options?: { dryRun?: boolean }): Promise<void>;
  /**
   * Leaves: tells the others, hands its shards to them (or keeps them reserved), finishes and saves what it received.
   * @throws GuildstreamError HANDOVER_INCOMPLETE when others are there, but do not serve all of its shards in time.
   */
  stop(options?: StopOptions): Promise<void>;
}

const pollMs = 10;
const pulseMs = 250;

/** @throws GuildstreamError of Discord's, NATS' or the list-server's making; nothing is left running then. */
export async function runWorker(options: WorkerOptions): Promise<RunningWorker> {
  const worker = new Worker(options);
  try {
    await (options.isSuccessor === true ? worker.succeed() : worker.boot());
    return worker;
  } catch (error) {
    await worker.abort();
    throw error;
  }
}

class Worker implements RunningWorker {
  readonly ready: Promise<void>;
  readonly failed: Promise<never>;
  readonly replaced: Promise<void>;
  readonly #options: WorkerOptions;
  readonly #counters = zeroCounters();
  readonly #rest: DiscordRest;
  #list: ClusterList | undefined;
  #budget: IdentifyBudget | undefined;
  #life: Life | undefined;
  #incarnation = newIncarnation();
  #status: MemberStatus = "booting";
  /** Of former lives, so that the totals never fall. */
  readonly #before = { identifies: 0, resumes: 0 };
  #pulse: NodeJS.Timeout | undefined;
  #stopAsks: () => void = () => {};
  readonly #succession: Succession;
  /** Another process holds our id, so what we hold is its own by now: everything is dropped at once. */
  readonly #onTaken = (error: GuildstreamError): void => {
    this.#isTaken = true;
    void this.#succession.cancel(error.message);
    void this.#life?.abandon();
    this.#fail(error);
  };
  #isTaken = false;
  /** While this process takes another's place. */
  #child: HotbootChild | undefined;
  /** As this process found it, or made it; what somebody writes over it by hand is put right. */
  #topology: TopologyEntry | undefined;
  #reviving: Promise<void> | undefined;
  #stopped: Promise<void> | undefined;
  #isReady: () => void = () => {};
  #fail: (error: unknown) => void = () => {};
  #replaced: () => void = () => {};

  constructor(options: WorkerOptions) {
    this.#options = options;
    this.replaced = new Promise((resolve) => {
      this.#replaced = resolve;
    });
    this.ready = new Promise((resolve) => {
      this.#isReady = resolve;
    });
    this.failed = new Promise((_, reject) => {
      this.#fail = reject;
    });
    this.failed.catch(() => {}); // Whoever waits for it sees it; nobody else needs to.
    this.#rest = createRest({ token: options.token, apiUrl: options.discordApi, log: options.log });
    const { id, nc, bot, log, spawnSuccessor } = options;
    this.#succession = new Succession({
      id,
      bot,
      log,
      life: () => this.#life!,
      incarnation: () => this.#incarnation,
      status: () => this.#status,
      spawn: spawnSuccessor,
      ask: (to, question, timeoutMs) => askWorker(nc, to, question, timeoutMs),
      beat: async () => this.#list?.beat(),
      cedePlace: () => this.#list!.pause(),
      isPlaced: (incarnation) => this.#list!.workers().get(id)?.incarnation === incarnation,
      keepPlace: () => this.#list!.announce(clusterKeys.worker(id), () => this.status(), this.#onTaken),
      onStep: (step) => this.#onStep("parent", step),
      onReplaced: () => this.#replaced(),
    });
  }

  async boot(): Promise<void> {
    const { log, id } = this.#options;
    const list = await this.#openList();
    await this.#refuseOtherBots(list);
    await this.#registerCommands();
    await list.announce(clusterKeys.worker(id), () => this.status(), this.#onTaken);
    await this.#ensureTopology(list);
    this.#serveAsks();
    await this.#beginLife();
    void this.#becomeReady();
    log.debug({ event: "booted" }, "in the list");
  }

  /**
   * Boots beside the running worker of this id and takes its place, guilds and sessions included.
   * @throws GuildstreamError HOTBOOT_FAILED, HOTBOOT_DISMISSED; the running worker goes on then.
   */
  async succeed(): Promise<void> {
    const { nc, id, bot, version, log } = this.#options;
    this.#status = "hotboot";
    const list = await this.#openList();
    await list.announce(clusterKeys.hotboot(id), () => this.status(), this.#onTaken);
    await this.#ensureTopology(list);
    await this.#beginLife();
    const child = new HotbootChild({
      id,
      incarnation: this.#incarnation,
      life: this.#life!,
      hello: { bot: bot.name, stateVersion: bot.state.version, version, pid: process.pid, host: hostname() },
      ask: (to, question, timeoutMs) => askWorker(nc, to, question, timeoutMs),
      parent: () => list.workers().get(id),
      succeed: async (revision) => {
        const ready = (): WorkerEntry => ({ ...this.status(), status: "ready" });
        if (!(await list.succeed(clusterKeys.worker(id), ready, revision, this.#onTaken))) return false;
        this.#status = nextStatus(this.#status, "ready");
        return true;
      },
      onStep: (step) => this.#onStep("child", step),
      log,
    });
    this.#child = child;
    this.#options.stop?.addEventListener("abort", () => void child.stop(), { once: true });
    await child.run();
    this.#child = undefined;
    this.#serveAsks();
    this.#isReady();
    // The new code's commands, now that it answers them; it serves already.
    this.#registerCommands().catch((error: unknown) => {
      const fields = { event: "commands_not_registered", error: messageOf(error) };
      log.error(fields, "Discord did not take the commands; they are registered at the next start");
    });
  }

  async #openList(): Promise<ClusterList> {
    const { nc, log, id, listCacheFile } = this.#options;
    const options = listCacheFile === undefined ? {} : { cacheFile: listCacheFile };
    const list = await ClusterList.open(nc, log, options);
    this.#list = list;
    noteAtOnce(list, id);
    this.#budget = new IdentifyBudget({
      list,
      by: id,
      ask: () => this.#rest.sessionStartLimit(),
      log,
      onWaitingChanged: () => void list.beat(),
      intervalMs: this.#options.identifyIntervalMs,
    });
    this.#pulse = watchPulse((stoodMs) => void this.#stoodStill(stoodMs));
    return list;
  }

  /** A cluster runs one bot: another would tick off its dispatches unseen, and take its commands from Discord. */
  async #refuseOtherBots(list: ClusterList): Promise<void> {
    const { bot, id } = this.#options;
    const others = [...list.workers().values()].filter(
      (worker) => worker.id !== id && worker.bot !== bot.name,
    );
    if (others.length === 0) return;
    // The entry of a dead one stays for a while; one that beats is there.
    const beats = new Map(others.map((other) => [other.id, list.beatsOf(clusterKeys.worker(other.id))]));
    await new Promise((resolve) => setTimeout(resolve, limits.heartbeatIntervalMs * 2.5));
    const other = others.find((each) => list.beatsOf(clusterKeys.worker(each.id)) > beats.get(each.id)!);
    if (other === undefined) return;
    throw new GuildstreamError(
      "CONFIG_INVALID",
      `this cluster runs the bot "${other.bot}" (${other.id}), not "${bot.name}"`,
      {
        hint: "all workers of a cluster run the same bot: use a NATS server or account of its own for another one",
      },
    );
  }

  async #registerCommands(): Promise<void> {
    const commands = Object.entries(this.#options.bot.commands ?? {}).map(([name, command]) => ({
      ...command.definition,
      name,
    }));
    await this.#rest.registerCommands(commands as RESTPutAPIApplicationCommandsJSONBody);
  }

  /** Takes down what a failed boot has built; the process is about to end with the error. */
  async abort(): Promise<void> {
    clearInterval(this.#pulse);
    this.#stopAsks();
    await this.#life?.abandon();
    await this.#list?.leave();
    this.#list?.stop();
    this.#rest.close();
  }

  hotboot(options: { dryRun?: boolean } = {}): Promise<void> {
    return this.#succession.hotboot(options.dryRun === true);
  }

  status(): WorkerEntry {
    const life = this.#life;
    const { identifies, resumes, queued } = life?.gatewayCounts ?? { identifies: 0, resumes: 0, queued: 0 };
    return {
      id: this.#options.id,
      incarnation: this.#incarnation,
      status: this.#status,
      version: this.#options.version,
      host: hostname(),
      pid: process.pid,
      at: Date.now(),
      rssBytes: process.memoryUsage.rss(),
      bot: this.#options.bot.name,
      shards: life?.shards ?? [],
      offline: this.#offline(),
      noted: this.#list === undefined ? [] : leavers(this.#list),
      guilds: life?.guilds ?? 0,
      dirtyGuilds: life?.dirtyGuilds ?? 0,
      identifies: this.#before.identifies + identifies,
      resumes: this.#before.resumes + resumes,
      queued,
      successor: this.#succession.successor,
      hotboot: this.#succession.progress,
      savedBy: life?.savedBy ?? 0,
      backpressure: life?.isFull ?? false,
      ...this.#counters,
    };
  }

  stop(options: StopOptions = {}): Promise<void> {
    this.#stopped ??= this.#stop(options.temporary === true);
    return this.#stopped;
  }

  /** Whatever is not connected, and why. */
  #offline(): WorkerEntry["offline"] {
    const identifying = this.#budget?.waiting ?? [];
    const { connecting = [], paused = [] } = this.#life?.offline ?? {};
    return { connecting: connecting.filter((shard) => !identifying.includes(shard)), identifying, paused };
  }

  async #stop(temporary: boolean): Promise<void> {
    const { id, log } = this.#options;
    const list = this.#list!;
    clearInterval(this.#pulse);
    await this.#succession.cancel("this worker was stopped");
    await this.#child?.stop();
    await this.#reviving;
    this.#stopAsks();
    if (this.#succession.isReplaced || this.#isTaken) {
      await this.#life?.abandon();
      list.stop();
      this.#rest.close();
      log.info({ event: "worker_replaced" }, "another process has this worker's place; nothing is left here");
      return;
    }
    this.#status = nextStatus(this.#status, temporary ? "offline-temporary" : "dying");
    await list.beat();
    const silent = await allNoted(list, id, this.#incarnation);
    if (silent.length > 0) {
      log.warn(
        { event: "not_noted", workers: silent },
        "these have not noted that we leave; leaving all the same",
      );
    }
    let unserved: number[] = [];
    if (temporary) await this.#life?.rest();
    else unserved = (await this.#life?.handOver()) ?? [];
    if (temporary) {
      await list.beat();
      list.pause();
    } else await list.leave();
    list.stop();
    this.#rest.close();
    log.info({ event: "worker_stopped", temporary, unserved }, "drained");
    if (unserved.length === 0) return;
    throw new GuildstreamError("HANDOVER_INCOMPLETE", `nobody serves shards ${unserved.join(", ")} yet`, {
      hint: "their sessions are kept in the list: look at the other workers' logs and at `guildstream status`",
    });
  }

  async #beginLife(): Promise<void> {
    const { id, nc, token, bot, memoryBytes, log } = this.#options;
    const collect = garbageCollector(this.#options.gcEveryGuilds ?? 0);
    this.#life = new Life({
      id,
      incarnation: this.#incarnation,
      nc,
      list: this.#list!,
      rest: this.#rest,
      budget: this.#budget!,
      token,
      bot,
      memoryBytes,
      shardCount: this.#topology!.shardCount,
      counters: this.#counters,
      log,
      onFatal: this.#fail,
      onRobbed: (shard) => {
        this.#reviving ??= this.#revive(shard).finally(() => {
          this.#reviving = undefined;
        });
      },
      accepts: (from) => this.#child === undefined || this.#child.accepts(from),
      onAsk: (question) => this.#child?.answer(question) ?? this.#succession.answer(question),
      onStep: (role, step) => this.#onStep(role, step),
      onGuildMoved: () => {
        this.#succession.guildMoved();
        collect();
      },
      onPauses: (pausesMs) => this.#succession.paused(pausesMs),
    });
    await this.#life.begin(this.#status === "hotboot");
  }

  /** Questions to this member, whoever of its lives answers. */
  #serveAsks(): void {
    const { nc, id } = this.#options;
    this.#stopAsks = answerAsks(nc, id, (question) => this.#succession.answer(question));
  }

  #onStep(role: HandoffRole, step: string): void {
    this.#options.log.debug({ event: "handoff_step", role, step }, "handoff");
    this.#options.onHandoffStep?.(`${role}:${step}`);
    void this.#list?.beat();
  }

  /** Taken for dead: nothing of this life counts any more. */
  async #revive(shard: number): Promise<void> {
    const { log } = this.#options;
    if (this.#stopped !== undefined) return;
    log.error(
      { event: "taken_for_dead", shard },
      "another worker has taken a shard of ours: dropping everything and beginning anew",
    );
    await this.#succession.cancel("this worker was taken for dead");
    await this.#child?.stop();
    if (this.#status === "hotboot") return; // What it had was given: it ends (child.ts).
    const life = this.#life!;
    await life.abandon();
    const { identifies, resumes } = life.gatewayCounts;
    this.#before.identifies += identifies;
    this.#before.resumes += resumes;
    this.#life = undefined;
    this.#incarnation = newIncarnation();
    await this.#list!.beat();
    for (;;) {
      try {
        await this.#beginLife();
        return;
      } catch (error) {
        log.warn({ event: "revive_failed", error: messageOf(error) }, "cannot begin anew yet");
        await this.#life!.abandon();
        await new Promise((resolve) => setTimeout(resolve, limits.listRetryMs));
      }
    }
  }

  async #stoodStill(stoodMs: number): Promise<void> {
    const { log } = this.#options;
    log.warn(
      { event: "stood_still", stoodMs },
      "this process stood still; looking whether it was taken for dead",
    );
    await this.#life?.verifyClaims().catch((error: unknown) => {
      log.warn({ event: "claims_failed", error: messageOf(error) }, "cannot look at the claims now");
    });
  }

  async #ensureTopology(list: ClusterList): Promise<void> {
    const { shards, log } = this.#options;
    const key = clusterKeys.topology;
    const write = (entry: TopologyEntry): Promise<unknown> =>
      list.compareAndSet(key, entry, list.revisionOf(key));
    if (list.topology() === undefined) {
      const shardCount = shards === "auto" ? (await this.#rest.gatewayBot()).shards : shards;
      await write({ epoch: 1, shardCount });
      while (list.topology() === undefined) await poll();
    }
    const { epoch, shardCount } = list.topology()!;
    const known = { epoch, shardCount };
    this.#topology = known;
    if (shards !== "auto" && shards !== shardCount) {
      log.warn({ event: "shards_ignored", asked: shards, shardCount }, "the cluster keeps its shard count");
    }
    const putRight = (): void => {
      const now = list.topology();
      const isMade = list.revisionOf(key) > 0 && now?.epoch === epoch && now.shardCount === shardCount;
      if (isMade) return;
      log.warn(
        { event: "topology_restored", found: now ?? null, known },
        "the list's shard count is put right",
      );
      write(known).catch(() => {}); // Another's next try does it.
    };
    list.onRebuilt(putRight);
    list.onChange((changed) => changed === key && putRight());
  }

  async #becomeReady(): Promise<void> {
    while (this.#status === "booting") {
      const { shards = [], offline } = this.#life ?? {};
      const settled = shards.length > 0 || (this.#list?.workers().size ?? 0) > 1;
      if (settled && offline?.connecting.length === 0 && offline.paused.length === 0) {
        this.#status = nextStatus(this.#status, "ready");
        await this.#list?.beat();
        this.#isReady();
      } else await poll();
    }
  }
}

function newIncarnation(): string {
  return `${Date.now().toString(36)}${randomBytes(4).toString("hex")}`;
}

/** Calls back after a time in which this process did not run: a stopped process, a suspended machine. */
function watchPulse(onStoodStill: (stoodMs: number) => void): NodeJS.Timeout {
  let beatAt = performance.now();
  return setInterval(() => {
    const stoodMs = performance.now() - beatAt - pulseMs;
    beatAt = performance.now();
    if (stoodMs > limits.frozenMs) onStoodStill(Math.round(stoodMs));
  }, pulseMs);
}

function poll(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, pollMs));
}

/** The error for a worker without a token; the command line asks before it starts anything. */
export function missingToken(): GuildstreamError {
  return new GuildstreamError("DISCORD_TOKEN_INVALID", "no Discord token is set", {
    hint: "set DISCORD_TOKEN to the bot's token (Discord developer portal, Bot page)",
  });
}
