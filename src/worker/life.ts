/**
 * Owns one life of a worker in the cluster: one incarnation, its writer in the log, the shards it claimed, the guilds it
 * holds. A worker that was taken for dead ends its life and begins another (worker.ts).
 *
 * Invariants:
 * - Every append of a life carries its incarnation: what a former life left behind is fenced like a stranger's.
 * - A shard is given up only after its connection is closed resumably, everything received of it is in the log, and
 *   (within a bound) saved; the next owner RESUMEs from the checkpoint.
 *
 * If the process dies at any point: the log has every acknowledged event, the list every checkpoint; the next owner
 * of each shard RESUMEs and replays the rest.
 */
import { ShardClaims } from "../cluster/claims.js";
import { DbnodeWatch } from "../cluster/dbnodes.js";
import { servedElsewhere, takers } from "../cluster/leaving.js";
import type { ClusterList } from "../cluster/list.js";
import type { AnyBot, Logger } from "../core/bot.js";
import { messageOf } from "../core/errors.js";
import { shardOf } from "../core/ids.js";
import { limits } from "../core/limits.js";
import { lifeName } from "../core/subjects.js";
import type { DiscordRest } from "../discord/rest.js";
import type { IdentifyThrottler } from "../discord/shard.js";
import { type NatsConnection, onReconnect } from "../nats/connect.js";
import { GuildLog } from "../nats/guild-log.js";
import { Effects } from "./effects.js";
import { Guilds } from "./guilds.js";
import { Handlers } from "./handlers.js";
import { Handoffs } from "./handoff/handoffs.js";
import type { Offer } from "./handoff/receiver.js";
import { Loader } from "./loader.js";
import { NodesAlarm } from "./nodes-alarm.js";
import { SavedTracker } from "./saved.js";
import type { Counters } from "./services.js";
import { ShardRunner } from "./shard-runner.js";
import { Warmer } from "./warmer.js";

export interface LifeOptions {
  id: string;
  incarnation: string;
  nc: NatsConnection;
  list: ClusterList;
  rest: DiscordRest;
  budget: IdentifyThrottler;
  token: string;
  bot: AnyBot;
  memoryBytes: number;
  counters: Counters;
  log: Logger;
  /** Trouble that waiting does not mend. */
  onFatal(error: unknown): void;
  /** Another worker has a shard of ours: we were taken for dead. */
  onRobbed(shard: number): void;
}

const pollMs = 10;
const retryLoadMs = 1_000;

export class Life {
  readonly #options: LifeOptions;
  readonly #shards = new Map<number, ShardRunner>();
  readonly #saved = new SavedTracker();
  readonly #guildLog: GuildLog;
  readonly #dbnodes: DbnodeWatch;
  readonly #nodesAlarm: NodesAlarm;
  readonly #loader: Loader;
  readonly #guilds: Guilds;
  readonly #claims: ShardClaims;
  readonly #warmer: Warmer;
  readonly #handoffs: Handoffs;
  /** Shards on their way here. */
  readonly #incoming = new Map<number, ShardRunner>();
  /** No shard is taken any more: this life is handing everything over. */
  #leaving = false;
  /** Counts of the shards given away, so that the totals never fall. */
  readonly #closedShards = { identifies: 0, resumes: 0 };
  #streamCreated = "";
  #ended = false;

  constructor(options: LifeOptions) {
    const { id, incarnation, nc, list, log, onRobbed } = options;
    this.#options = options;
    this.#guildLog = new GuildLog(nc, `${id}.${incarnation}`, (fields, message) =>
      log.warn({ event: "append_trouble", ...fields }, message),
    );
    this.#dbnodes = new DbnodeWatch(nc, list, (watermark) => this.#saved.advance(watermark));
    this.#nodesAlarm = new NodesAlarm(this.#dbnodes, this.#saved, log);
    const mayLoad = (): boolean => this.#guilds.mayLoad;
    this.#loader = new Loader(nc, this.#guildLog, this.#dbnodes, log, mayLoad);
    this.#guilds = this.#makeGuilds();
    this.#guilds.onRoom(() => this.#loader.begin());
    this.#warmer = new Warmer({ guilds: this.#guilds, guildIds: () => this.#guildLog.guildIds(), log });
    this.#claims = new ShardClaims({
      id,
      incarnation,
      list,
      log,
      onClaimed: (shard, from) => this.#openShard(shard, from),
      mayRelease: () => this.#releasable(),
      onRelease: (shard) => this.#giveAway(shard, performance.now() + limits.drainTimeoutMs),
      onRobbed,
    });
    this.#handoffs = this.#makeHandoffs();
    onReconnect(nc, () => {
      this.#saved.suspend();
      void this.#checkRewind();
    });
  }

  async begin(): Promise<void> {
    this.#streamCreated = (await this.#guildLog.streamEnd()).created;
    await this.#loader.learn();
    this.#claims.start();
  }

  get shards(): number[] {
    return [...this.#shards.keys()].sort((a, b) => a - b);
  }

  /** The shards that are not connected; those that wait for leave to IDENTIFY among them. */
  get offline(): { connecting: number[]; paused: number[] } {
    const off = this.shards.filter((shard) => !this.#shards.get(shard)!.isConnected);
    const isPaused = (shard: number): boolean => this.#shards.get(shard)!.isPaused;
    return { connecting: off.filter((shard) => !isPaused(shard)), paused: off.filter(isPaused) };
  }

  get guilds(): number {
    return this.#guilds.size;
  }

  get dirtyGuilds(): number {
    return this.#saved.dirtyGuilds;
  }

  /** How many database nodes count for "saved" now. */
  get savedBy(): number {
    return this.#dbnodes.savedBy;
  }

  /** Memory is full: the shards are off the gateway until there is room. */
  get isFull(): boolean {
    return this.#guilds.isFull;
  }

  get gatewayCounts(): { identifies: number; resumes: number; queued: number } {
    const total = { ...this.#closedShards, queued: 0 };
    for (const shard of this.#shards.values()) {
      total.queued += shard.queued;
      total.identifies += shard.counts.identifies;
      total.resumes += shard.counts.resumes;
    }
    return total;
  }

  /** This process stood still for a while: asks the list-server whether it was taken for dead. */
  async verifyClaims(): Promise<void> {
    await this.#claims.verify();
  }

  /**
   * Ends the life with nothing left open. The claims are given up to the others; the shards that none of them serves by
   * the end, although somebody is there to.
   */
  async handOver(): Promise<number[]> {
    const { id, list } = this.#options;
    this.#leaving = true;
    await this.#claims.stop();
    const deadlineAt = performance.now() + limits.drainTimeoutMs;
    const left: number[] = [];
    if (takers(list, id).length === 0) {
      await Promise.all(this.shards.map((shard) => this.#giveAway(shard, deadlineAt)));
    }
    // One after the other: the rest goes on being served meanwhile.
    for (const shard of this.shards) {
      await this.#giveAway(shard, deadlineAt);
      left.push(...(await servedElsewhere(list, id, [shard])));
    }
    await this.#allSaved(deadlineAt);
    this.#close();
    return takers(list, id).length === 0 ? [] : left;
  }

  /** Ends the life with every shard closed and checkpointed, and the claims left as they are: for a member that will be back. */
  async rest(): Promise<void> {
    this.#leaving = true;
    await this.#claims.stop();
    const deadlineAt = performance.now() + limits.drainTimeoutMs;
    await Promise.all(this.shards.map((shard) => this.#closeShard(shard, deadlineAt)));
    await this.#allSaved(deadlineAt);
    this.#close();
  }

  /** Ends the life at once: drops everything, closes the connections without ending the sessions. */
  async abandon(): Promise<void> {
    const runners = [...this.#shards.values()];
    for (const shard of this.shards) this.#forgetShard(shard);
    this.#close();
    await Promise.all(runners.map((runner) => runner.abandon()));
    await this.#claims.stop();
  }

  #close(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#handoffs.stop();
    this.#warmer.stop();
    this.#guilds.stop();
    this.#nodesAlarm.stop();
    this.#dbnodes.stop();
    this.#guildLog.close();
  }

  /** By handoff to the worker that has least; if that fails, or nobody is there, closed and free for anyone. */
  async #giveAway(shard: number, deadlineAt: number): Promise<void> {
    const { id, list } = this.#options;
    const [lightest] = takers(list, id).sort((a, b) => a.shards.length - b.shards.length);
    if (lightest !== undefined) {
      if ((await this.handOff(shard, lifeName(lightest.id, lightest.incarnation))) === undefined) return;
    }
    await this.#closeShard(shard, deadlineAt);
    await this.#claims.giveUp(shard);
  }

  /** Moves a shard to another life with its guilds in memory; the reason when it is still here. */
  async handOff(shard: number, to: string): Promise<string | undefined> {
    const runner = this.#shards.get(shard);
    if (runner === undefined) return "there is no such shard here";
    this.#claims.give(shard);
    const { shardCount } = this.#options.list.topology()!;
    const outcome = await this.#handoffs.give(shard, shardCount, to, runner);
    if (outcome !== "gone") {
      this.#claims.keep(shard);
      return outcome.returned;
    }
    this.#claims.letGo(shard);
    this.#forgetShard(shard);
    await runner.abandon();
    this.#options.log.info({ event: "shard_handed_over", shard, to }, "shard handed over");
    return undefined;
  }

  async #allSaved(deadlineAt: number): Promise<void> {
    while (this.#saved.dirtyGuilds > 0 && performance.now() < deadlineAt) await poll();
    const guilds = this.#saved.dirtyGuilds;
    if (guilds === 0) return;
    this.#options.log.warn(
      { event: "left_unsaved", guilds },
      "no database node has saved these yet; the log has them",
    );
  }

  #makeGuilds(): Guilds {
    const { bot, log, rest, counters, memoryBytes } = this.#options;
    const effects = new Effects(rest, this.#guildLog, counters, log);
    const services = {
      bot,
      handlers: new Handlers(bot, rest.client, log),
      guildLog: this.#guildLog,
      log,
      counters,
      now: () => performance.now(),
      load: (guildId: string, subject: string) => this.#loader.load(guildId, subject),
      send: (list: Parameters<Effects["send"]>[0]) => effects.send(list),
      resend: (...args: Parameters<Effects["resend"]>) => effects.resend(...args),
      appended: (guildId: string, seq: number) => {
        counters.appended += 1;
        this.#saved.appended(guildId, seq);
      },
      shardOf: (guildId: string) => this.#shardOf(guildId),
      isOurs: (guildId: string) => this.#holdsGuild(guildId),
      stateMaxBytes: () => this.#guildLog.maxPayloadBytes - limits.messageHeadroomBytes,
      later: (run: () => void) => void setTimeout(run, retryLoadMs),
    };
    return new Guilds(services, this.#saved, memoryBytes);
  }

  #makeHandoffs(): Handoffs {
    const { nc, id, incarnation, bot, list, log } = this.#options;
    return new Handoffs({
      nc,
      life: lifeName(id, incarnation),
      bot: { name: bot.name, stateVersion: bot.state.version },
      guilds: this.#guilds,
      refusal: (offer) => this.#refusal(offer),
      makeRunner: (offer) => {
        const runner = this.#makeRunner(offer.shard, offer.shardCount, true);
        this.#incoming.set(offer.shard, runner);
        return runner;
      },
      claim: (shard, revision) => this.#claims.takeOver(shard, revision),
      claimRevision: (shard) => this.#claims.revisionOf(shard),
      reclaim: (shard) => this.#claims.renew(shard),
      isAlive: (life) =>
        [...list.workers().values()].some(
          (each) => each.live && lifeName(each.id, each.incarnation) === life,
        ),
      onServing: (shard) => this.#received(shard),
      onDropped: (shard, reason) => this.#dropIncoming(shard, reason),
      onStep: () => {},
      onGuildMoved: () => {},
      onPauses: () => {},
      onAsk: (question) => ({ ok: false, reason: `nobody here answers "${question.ask}"` }),
      messageMaxBytes: () => this.#guildLog.maxPayloadBytes,
      log,
    });
  }

  #refusal({ shard }: Offer): string | undefined {
    if (this.#leaving || this.#ended) return "it is leaving";
    if (this.#shards.has(shard) || this.#incoming.has(shard)) return `it has shard ${shard}`;
    return undefined;
  }

  #received(shard: number): void {
    const runner = this.#incoming.get(shard)!;
    this.#incoming.delete(shard);
    this.#shards.set(shard, runner);
    runner.allowIdentify();
    void this.#options.list.beat();
    this.#options.log.info({ event: "shard_received", shard }, "shard received from another worker");
  }

  #dropIncoming(shard: number, reason: string): void {
    const runner = this.#incoming.get(shard);
    this.#incoming.delete(shard);
    this.#guilds.dropWhere((guildId) => this.#shardOf(guildId) === shard);
    void runner?.abandon();
    this.#options.log.warn(
      { event: "shard_not_received", shard, reason },
      "a shard was not received after all",
    );
  }

  #shardOf(guildId: string): number {
    return shardOf(guildId, this.#options.list.topology()?.shardCount ?? 1);
  }

  #holdsGuild(guildId: string): boolean {
    const shard = this.#shardOf(guildId);
    if (this.#incoming.has(shard)) return true;
    return this.#shards.has(shard) && this.#claims.isOurs(shard);
  }

  #openShard(shard: number, from: string | undefined): void {
    const { log, list } = this.#options;
    const { shardCount } = list.topology()!;
    // It was served before: guilds may have come into being since we learned which there are.
    if (list.session(shard) !== undefined) this.#loader.forgetKnown();
    const runner = this.#makeRunner(shard, shardCount, false);
    this.#shards.set(shard, runner);
    runner.connect();
    log.info({ event: "shard_claimed", shard, ...(from !== undefined && { from }) }, "shard claimed");
    if (from !== undefined) this.#warmer.warm((guildId) => this.#shardOf(guildId) === shard);
  }

  #makeRunner(shard: number, shardCount: number, isReceived: boolean): ShardRunner {
    const { token, bot, log, list, rest, budget, counters, incarnation, onFatal, onRobbed } = this.#options;
    if (isReceived) this.#loader.forgetKnown();
    return new ShardRunner({
      shard,
      shardCount,
      list,
      guilds: this.#guilds,
      counters,
      incarnation,
      log,
      gateway: { token, intents: bot.intents, rest, throttler: budget, onFatal },
      isReceived,
      onConnected: () => void list.beat(),
      onLost: () => onRobbed(shard),
    });
  }

  /** A shard between IDENTIFY and READY would lose its session; the connected ones may go, the highest first. */
  #releasable(): number[] {
    return this.shards.filter((shard) => this.#shards.get(shard)!.isConnected).reverse();
  }

  async #closeShard(shard: number, deadlineAt: number): Promise<void> {
    const runner = this.#shards.get(shard);
    if (runner === undefined) return;
    await runner.close(deadlineAt);
    await this.#shardSaved(shard);
    this.#forgetShard(shard);
    this.#options.log.info({ event: "shard_released", shard }, "shard released");
  }

  /** What memory holds is kept until it is saved; a new owner is not kept waiting for long, though. */
  async #shardSaved(shard: number): Promise<void> {
    const deadlineAt = performance.now() + limits.releaseSavedTimeoutMs;
    const isDirty = (): boolean => this.#saved.someDirty((guildId) => this.#shardOf(guildId) === shard);
    while (this.#dbnodes.savedBy > 0 && isDirty() && performance.now() < deadlineAt) await poll();
  }

  #forgetShard(shard: number): void {
    const counts = this.#shards.get(shard)?.counts;
    this.#closedShards.identifies += counts?.identifies ?? 0;
    this.#closedShards.resumes += counts?.resumes ?? 0;
    this.#shards.delete(shard);
    this.#guilds.dropWhere((guildId) => this.#shardOf(guildId) === shard);
  }

  /** The server came back: if the stream ends before what it acknowledged to us, memory is all there is of the rest. */
  async #checkRewind(): Promise<void> {
    if (this.#ended) return;
    const { log, nc } = this.#options;
    let end: { created: string; lastSeq: number };
    try {
      end = await this.#guildLog.streamEnd();
    } catch (error) {
      log.warn({ event: "stream_check_failed", error: messageOf(error) }, "the log does not answer");
      // Nothing becomes clean before the stream has been looked at.
      if (!nc.isClosed()) setTimeout(() => void this.#checkRewind(), retryLoadMs).unref();
      return;
    }
    if (end.created === this.#streamCreated && end.lastSeq >= this.#guildLog.lastSeq) {
      this.#saved.resume();
      return;
    }
    log.error(
      { event: "stream_rewound", had: this.#guildLog.lastSeq, has: end.lastSeq },
      "the guild log lost its end; putting back what memory holds",
    );
    this.#streamCreated = end.created;
    this.#dbnodes.distrust();
    this.#saved.resume(end.lastSeq);
    this.#guilds.repairAbove(end.lastSeq);
  }
}

function poll(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, pollMs));
}
