/**
 * Owns the worker: wires the log, the list-server, the shards and the guilds; boots, drains, fails truthfully.
 *
 * One way through: gateway -> ring -> guild -> log -> effects. Back come acks and the list's changes only.
 *
 * If the process dies at any point: the log has every acknowledged event, the list every checkpoint; the next owner
 * of each shard RESUMEs and replays the rest. Called by the command line.
 */

import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import type { RESTPutAPIApplicationCommandsJSONBody } from "discord-api-types/v10";
import { ShardClaims } from "../cluster/claims.js";
import { DbnodeWatch } from "../cluster/dbnodes.js";
import { IdentifyBudget } from "../cluster/identify.js";
import { ClusterList } from "../cluster/list.js";
import type { AnyBot, Logger } from "../core/bot.js";
import { GuildstreamError, messageOf } from "../core/errors.js";
import { shardOf } from "../core/ids.js";
import { limits } from "../core/limits.js";
import type { MemberStatus, WorkerEntry } from "../core/members.js";
import { clusterKeys } from "../core/subjects.js";
import { createRest, type DiscordRest } from "../discord/rest.js";
import type { NatsConnection } from "../nats/connect.js";
import { onReconnect } from "../nats/connect.js";
import { GuildLog } from "../nats/guild-log.js";
import { Effects } from "./effects.js";
import { Guilds } from "./guilds.js";
import { Handlers } from "./handlers.js";
import { Loader } from "./loader.js";
import { SavedTracker } from "./saved.js";
import type { Counters } from "./services.js";
import { ShardRunner } from "./shard-runner.js";

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
}

export interface RunningWorker {
  /** Every shard that this worker claimed at boot is connected. */
  ready: Promise<void>;
  /** Rejects on what cannot be mended by waiting: a wrong token, a taken id. */
  failed: Promise<never>;
  status(): WorkerEntry;
  /** Drains: closes the sessions resumably, finishes what was received, waits until it is saved, leaves the list. */
  stop(): Promise<void>;
}

const stuckPollMs = 10;
const retryLoadMs = 1_000;

/** @throws GuildstreamError of Discord's, NATS' or the list-server's making; nothing is left running then. */
export async function runWorker(options: WorkerOptions): Promise<RunningWorker> {
  const worker = new Worker(options);
  try {
    await worker.boot();
    return worker;
  } catch (error) {
    worker.abort();
    throw error;
  }
}

class Worker implements RunningWorker {
  readonly ready: Promise<void>;
  readonly failed: Promise<never>;
  readonly #options: WorkerOptions;
  readonly #incarnation = `${Date.now().toString(36)}${randomBytes(4).toString("hex")}`;
  readonly #counters: Counters = {
    dispatches: 0,
    handled: 0,
    skipped: 0,
    appended: 0,
    handlerErrors: 0,
    effectsSent: 0,
    effectsDropped: 0,
    fenced: 0,
  };
  readonly #shards = new Map<number, ShardRunner>();
  readonly #saved = new SavedTracker();
  readonly #guildLog: GuildLog;
  #list: ClusterList | undefined;
  #dbnodes: DbnodeWatch | undefined;
  #guilds: Guilds | undefined;
  #claims: ShardClaims | undefined;
  #rest: DiscordRest;
  #status: MemberStatus = "booting";
  /** Counts of the shards given away, so that the totals never fall. */
  readonly #closedShards = { identifies: 0, resumes: 0 };
  #streamCreated = "";
  #stopped: Promise<void> | undefined;
  #isReady: () => void = () => {};
  #fail: (error: unknown) => void = () => {};

  constructor(options: WorkerOptions) {
    this.#options = options;
    this.ready = new Promise((resolve) => {
      this.#isReady = resolve;
    });
    this.failed = new Promise((_, reject) => {
      this.#fail = reject;
    });
    this.failed.catch(() => {}); // Whoever waits for it sees it; nobody else needs to.
    this.#rest = createRest({ token: options.token, apiUrl: options.discordApi, log: options.log });
    this.#guildLog = new GuildLog(options.nc, `${options.id}.${this.#incarnation}`, (fields, message) =>
      options.log.warn({ event: "append_trouble", ...fields }, message),
    );
  }

  async boot(): Promise<void> {
    const { nc, bot, log, id } = this.#options;
    const commands = Object.entries(bot.commands ?? {}).map(([name, command]) => ({
      ...command.definition,
      name,
    }));
    await this.#rest.registerCommands(commands as RESTPutAPIApplicationCommandsJSONBody);
    const list = await ClusterList.open(nc, log);
    this.#list = list;
    await list.announce(clusterKeys.worker(id), () => this.status());
    await this.#ensureTopology(list);
    this.#streamCreated = (await this.#guildLog.streamEnd()).created;
    const dbnodes = new DbnodeWatch(nc, list, (watermark) => this.#saved.advance(watermark));
    this.#dbnodes = dbnodes;
    const loader = new Loader(nc, this.#guildLog, dbnodes, log);
    await loader.learn();
    this.#guilds = this.#makeGuilds(loader);
    const gatewayBot = () => this.#rest.gatewayBot();
    const budget = new IdentifyBudget(list, async () => (await gatewayBot()).session_start_limit, log);
    this.#claims = new ShardClaims({
      id,
      incarnation: this.#incarnation,
      list,
      log,
      onClaimed: (shard) => this.#openShard(shard, budget),
      onRelease: (shard) => this.#releaseShard(shard),
      onLost: (shard) => this.#loseShard(shard),
    });
    this.#claims.start();
    onReconnect(nc, () => void this.#checkRewind());
    void this.#becomeReady();
  }

  /** Takes down what a failed boot has built; the process is about to end with the error. */
  abort(): void {
    this.#claims?.stop();
    this.#guilds?.stop();
    this.#dbnodes?.stop();
    this.#list?.stop();
    this.#guildLog.close();
    this.#rest.close();
  }

  status(): WorkerEntry {
    let queued = 0;
    let { identifies, resumes } = this.#closedShards;
    for (const shard of this.#shards.values()) {
      queued += shard.queued;
      identifies += shard.counts.identifies;
      resumes += shard.counts.resumes;
    }
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
      shards: [...this.#shards.keys()].sort((a, b) => a - b),
      guilds: this.#guilds?.size ?? 0,
      dirtyGuilds: this.#saved.dirtyGuilds,
      identifies,
      resumes,
      queued,
      ...this.#counters,
    };
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async #stop(): Promise<void> {
    const deadlineAt = performance.now() + limits.drainTimeoutMs;
    const { log } = this.#options;
    this.#status = "draining";
    this.#claims?.stop();
    await this.#list?.beat();
    await Promise.all([...this.#shards.values()].map((shard) => shard.close(deadlineAt)));
    for (const shard of this.#claims?.held ?? []) await this.#claims?.giveUp(shard);
    while (this.#saved.dirtyGuilds > 0 && performance.now() < deadlineAt) await poll();
    const unsaved = this.#saved.dirtyGuilds;
    if (unsaved > 0)
      log.warn(
        { event: "left_unsaved", guilds: unsaved },
        "no database node has saved these yet; the log has them",
      );
    this.#guilds?.stop();
    this.#dbnodes?.stop();
    await this.#list?.leave();
    this.#list?.stop();
    this.#guildLog.close();
    this.#rest.close();
    log.info({ event: "worker_stopped", unsaved }, "drained");
  }

  async #ensureTopology(list: ClusterList): Promise<void> {
    const { shards, log } = this.#options;
    const existing = list.topology();
    if (existing !== undefined) {
      if (shards !== "auto" && shards !== existing.shardCount) {
        log.warn(
          { event: "shards_ignored", asked: shards, shardCount: existing.shardCount },
          "the cluster keeps its shard count",
        );
      }
      return;
    }
    const shardCount = shards === "auto" ? (await this.#rest.gatewayBot()).shards : shards;
    await list.bucket.compareAndSet(
      clusterKeys.topology,
      { epoch: 1, shardCount },
      list.revisionOf(clusterKeys.topology),
    );
    while (list.topology() === undefined) await poll();
  }

  #makeGuilds(loader: Loader): Guilds {
    const { bot, log } = this.#options;
    const effects = new Effects(this.#rest, this.#guildLog, this.#counters, log);
    const services = {
      bot,
      handlers: new Handlers(bot, this.#rest.client, log),
      guildLog: this.#guildLog,
      log,
      counters: this.#counters,
      now: () => performance.now(),
      load: (guildId: string, subject: string) => loader.load(guildId, subject),
      send: (list: Parameters<Effects["send"]>[0]) => effects.send(list),
      resend: (...args: Parameters<Effects["resend"]>) => effects.resend(...args),
      appended: (guildId: string, seq: number) => {
        this.#counters.appended += 1;
        this.#saved.appended(guildId, seq);
      },
      isOurs: (guildId: string) => this.#holdsGuild(guildId),
      stateMaxBytes: () => this.#guildLog.maxPayloadBytes - limits.messageHeadroomBytes,
      later: (run: () => void) => void setTimeout(run, retryLoadMs),
    };
    return new Guilds(services, this.#saved, this.#options.memoryBytes);
  }

  #holdsGuild(guildId: string): boolean {
    const topology = this.#list?.topology();
    if (topology === undefined) return true;
    const shard = shardOf(guildId, topology.shardCount);
    return this.#shards.has(shard) && this.#claims!.isOurs(shard);
  }

  #openShard(shard: number, budget: IdentifyBudget): void {
    const { token, bot, log } = this.#options;
    const runner = new ShardRunner({
      shard,
      shardCount: this.#list!.topology()!.shardCount,
      list: this.#list!,
      guilds: this.#guilds!,
      counters: this.#counters,
      incarnation: this.#incarnation,
      log,
      gateway: {
        token,
        intents: bot.intents,
        rest: this.#rest,
        throttler: budget,
        onFatal: (error) => this.#fail(error),
      },
      onLost: () => this.#loseShard(shard),
    });
    this.#shards.set(shard, runner);
    runner.connect();
    log.info({ event: "shard_claimed", shard }, "shard claimed");
  }

  async #releaseShard(shard: number): Promise<void> {
    const runner = this.#shards.get(shard);
    if (runner === undefined) return;
    await runner.close(performance.now() + limits.drainTimeoutMs);
    this.#forgetShard(shard);
    this.#options.log.info({ event: "shard_released", shard }, "shard released to another worker");
  }

  #loseShard(shard: number): void {
    const runner = this.#shards.get(shard);
    if (runner === undefined) return;
    this.#forgetShard(shard);
    this.#claims?.held.delete(shard);
    void runner.abandon();
    this.#options.log.warn({ event: "shard_lost", shard }, "another worker holds this shard; dropped");
  }

  #forgetShard(shard: number): void {
    const counts = this.#shards.get(shard)?.counts;
    this.#closedShards.identifies += counts?.identifies ?? 0;
    this.#closedShards.resumes += counts?.resumes ?? 0;
    this.#shards.delete(shard);
    const { shardCount } = this.#list!.topology()!;
    this.#guilds!.dropWhere((guildId) => shardOf(guildId, shardCount) === shard);
  }

  async #becomeReady(): Promise<void> {
    while (this.#status === "booting") {
      const shards = [...this.#shards.values()];
      const settled = shards.length > 0 || (this.#list?.workers().size ?? 0) > 1;
      if (settled && shards.every((shard) => shard.isConnected)) {
        this.#status = "ready";
        await this.#list?.beat();
        this.#isReady();
      } else await poll();
    }
  }

  /** The server came back: if the stream ends before what it acknowledged to us, memory is all there is of the rest. */
  async #checkRewind(): Promise<void> {
    try {
      const end = await this.#guildLog.streamEnd();
      if (end.created === this.#streamCreated && end.lastSeq >= this.#guildLog.lastSeq) return;
      this.#options.log.error(
        { event: "stream_rewound", had: this.#guildLog.lastSeq, has: end.lastSeq },
        "the guild log lost its end; putting back what memory holds",
      );
      this.#streamCreated = end.created;
      this.#guilds?.repairAbove(end.lastSeq);
    } catch (error) {
      this.#options.log.warn(
        { event: "stream_check_failed", error: messageOf(error) },
        "the log does not answer",
      );
    }
  }
}

function poll(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, stuckPollMs));
}

/** The error for a worker without a token; the command line asks before it starts anything. */
export function missingToken(): GuildstreamError {
  return new GuildstreamError("DISCORD_TOKEN_INVALID", "no Discord token is set", {
    hint: "set DISCORD_TOKEN to the bot's token (Discord developer portal, Bot page)",
  });
}
