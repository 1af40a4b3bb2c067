/**
 * Owns one life of a worker in the cluster: one incarnation, its writer in the log, the shards it claimed or was given,
 * the guilds it holds. A worker that was taken for dead ends its life and begins another (worker.ts).
 *
 * Invariants:
 * - Every append of a life carries its incarnation: what a former life left behind is fenced like a stranger's.
 * - A shard is given up only after its connection is closed resumably, everything received of it is in the log, and
 *   (within a bound) saved; the next owner RESUMEs from the checkpoint. Handed over, its guilds go along in memory.
 *
 * If the process dies at any point: the log has every acknowledged event, the list every checkpoint; the next owner
 * of each shard RESUMEs and replays the rest.
 */
import { ShardClaims } from "../cluster/claims.js";
import { DbnodeWatch } from "../cluster/dbnodes.js";
import { servedElsewhere, takers } from "../cluster/leaving.js";
import type { ClusterList } from "../cluster/list.js";
import type { AnyBot, Logger } from "../core/bot.js";
import type { Answer, Ask, GiverStep, ReceiverStep } from "../core/handoff.js";
import { shardOf } from "../core/ids.js";
import { limits } from "../core/limits.js";
import { lifeName } from "../core/subjects.js";
import type { DiscordRest } from "../discord/rest.js";
import type { IdentifyThrottler } from "../discord/shard.js";
import type { NatsConnection } from "../nats/connect.js";
import { GuildLog } from "../nats/guild-log.js";
import { Guilds } from "./guilds.js";
import { Handoffs } from "./handoff/handoffs.js";
import type { Offer } from "./handoff/receiver.js";
import { Loader } from "./loader.js";
import { NodesAlarm } from "./nodes-alarm.js";
import { RewindWatch } from "./rewind-watch.js";
import { SavedTracker } from "./saved.js";
import { type Counters, guildServices } from "./services.js";
import { ShardRunner } from "./shard-runner.js";
import { Shards } from "./shards.js";
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
  shardCount: number;
  counters: Counters;
  log: Logger;
  /** Trouble that waiting does not mend. */
  onFatal(error: unknown): void;
  /** Another worker has a shard of ours: we were taken for dead. */
  onRobbed(shard: number): void;
  /** Whether shards are taken from that life; from anybody's by default. */
  accepts?(from: string): boolean;
  /** What is asked of this life and is not about a move. */
  onAsk(question: Ask): Answer | Promise<Answer>;
  onStep(role: "giver" | "receiver", step: GiverStep | ReceiverStep, shard: number): void;
  onGuildMoved(): void;
  onPauses(pausesMs: readonly number[]): void;
}

const pollMs = 10;

export class Life {
  readonly #options: LifeOptions;
  readonly #saved = new SavedTracker();
  readonly #guildLog: GuildLog;
  readonly #dbnodes: DbnodeWatch;
  readonly #nodesAlarm: NodesAlarm;
  readonly #loader: Loader;
  readonly #guilds: Guilds;
  readonly #shards: Shards;
  readonly #claims: ShardClaims;
  readonly #warmer: Warmer;
  readonly #handoffs: Handoffs;
  readonly #rewindWatch: RewindWatch;
  /** No shard is taken any more: this life is handing everything over. */
  #leaving = false;
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
    this.#shards = new Shards({
      guilds: this.#guilds,
      makeRunner: (shard, isReceived) => this.#makeRunner(shard, isReceived),
    });
    this.#claims = new ShardClaims({
      id,
      incarnation,
      shardCount: options.shardCount,
      list,
      log,
      onClaimed: (shard, from) => this.#claimed(shard, from),
      mayRelease: () => this.#shards.connected.reverse(),
      onRelease: (shard) => this.#giveAway(shard, performance.now() + limits.drainTimeoutMs),
      onRobbed,
    });
    this.#handoffs = this.#makeHandoffs();
    this.#rewindWatch = new RewindWatch({
      nc,
      guildLog: this.#guildLog,
      dbnodes: this.#dbnodes,
      saved: this.#saved,
      guilds: this.#guilds,
      log,
    });
  }

  /** Looks at the log, and claims shards; with `isGiven` it waits for what another worker hands over. */
  async begin(isGiven = false): Promise<void> {
    await this.#rewindWatch.begin();
    if (isGiven) return;
    await this.#loader.learn();
    this.#claims.start();
  }

  /** This life's name on the wire. */
  get name(): string {
    return lifeName(this.#options.id, this.#options.incarnation);
  }

  get shards(): number[] {
    return this.#shards.ids;
  }

  /** Fixed for a life: whatever is written into the list meanwhile, guilds stay with their shards. */
  get shardCount(): number {
    return this.#options.shardCount;
  }

  /** Where each shard's session is RESUMEd; the ones without a session are left out. */
  get resumeUrls(): { shard: number; resumeUrl: string }[] {
    return this.shards.flatMap((shard) => {
      const resumeUrl = this.#shards.get(shard)?.session?.resumeUrl;
      return resumeUrl === undefined ? [] : [{ shard, resumeUrl }];
    });
  }

  /** The shards that are not connected; those that wait for leave to IDENTIFY among them. */
  get offline(): { connecting: number[]; paused: number[] } {
    return this.#shards.offline;
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
    return this.#shards.counts;
  }

  /** This process stood still for a while: asks the list-server whether it was taken for dead. */
  async verifyClaims(): Promise<void> {
    await this.#claims.verify();
  }

  /** Claims and gives up nothing by itself, until `resumeClaims`. */
  async holdClaims(): Promise<void> {
    await this.#claims.pause();
  }

  resumeClaims(): void {
    this.#claims.resume();
  }

  /** Begins to claim: what was given is held already, what is free comes. */
  serve(): void {
    this.#claims.start();
  }

  /** Opens a socket for a shard that another worker will hand over, up to HELLO. */
  async prepare(shard: number, resumeUrl: string): Promise<void> {
    await this.#shards.expect(shard).prepare(resumeUrl);
  }

  /** Moves a shard to another life with its guilds in memory; the reason when it is still here. */
  async handOff(shard: number, to: string): Promise<string | undefined> {
    const runner = this.#shards.get(shard);
    if (runner === undefined) return "there is no such shard here";
    this.#claims.give(shard);
    const outcome = await this.#handoffs.give(shard, this.shardCount, to, runner);
    if (outcome !== "gone") {
      this.#claims.keep(shard);
      return outcome.returned;
    }
    this.#claims.letGo(shard);
    this.#shards.forget(shard);
    await runner.abandon();
    this.#options.log.info({ event: "shard_handed_over", shard, to }, "shard handed over");
    return undefined;
  }

  cancelGiving(reason: string): void {
    this.#handoffs.cancelGiving(reason);
  }

  /** Drops what is on its way here; what has arrived stays. */
  cancelReceiving(reason: string): void {
    this.#handoffs.cancelReceiving(reason);
    for (const shard of this.#shards.expected) this.#shards.unexpect(shard);
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
    const runners = this.shards.map((shard) => this.#shards.get(shard)!);
    for (const shard of this.shards) this.#shards.forget(shard);
    this.#close();
    await Promise.all(runners.map((runner) => runner.abandon()));
    await this.#claims.stop();
  }

  #close(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#handoffs.stop();
    for (const shard of this.#shards.expected) this.#shards.unexpect(shard);
    this.#rewindWatch.stop();
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

  async #closeShard(shard: number, deadlineAt: number): Promise<void> {
    const runner = this.#shards.get(shard);
    if (runner === undefined) return;
    await runner.close(deadlineAt);
    await this.#shardSaved(shard);
    this.#shards.forget(shard);
    this.#options.log.info({ event: "shard_released", shard }, "shard released");
  }

  /** What memory holds is kept until it is saved; a new owner is not kept waiting for long, though. */
  async #shardSaved(shard: number): Promise<void> {
    const deadlineAt = performance.now() + limits.releaseSavedTimeoutMs;
    const isDirty = (): boolean => this.#saved.someDirty((guildId) => this.#shardOf(guildId) === shard);
    while (this.#dbnodes.savedBy > 0 && isDirty() && performance.now() < deadlineAt) await poll();
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
    const services = guildServices({
      bot,
      rest,
      guildLog: this.#guildLog,
      log,
      counters,
      load: (guildId, subject) => this.#loader.load(guildId, subject),
      appended: (guildId, seq) => this.#saved.appended(guildId, seq),
      shardOf: (guildId) => this.#shardOf(guildId),
      isOurs: (guildId) => this.#holdsGuild(guildId),
    });
    return new Guilds(services, this.#saved, memoryBytes);
  }

  #makeHandoffs(): Handoffs {
    const { nc, bot, list, log, onAsk, onStep, onGuildMoved, onPauses } = this.#options;
    return new Handoffs({
      nc,
      life: this.name,
      bot: { name: bot.name, stateVersion: bot.state.version },
      guilds: this.#guilds,
      refusal: (offer) => this.#refusal(offer),
      makeRunner: (offer) => this.#shards.expect(offer.shard),
      claim: (shard, revision) => this.#claims.takeOver(shard, revision),
      claimRevision: (shard) => this.#claims.revisionOf(shard),
      reclaim: (shard) => this.#claims.renew(shard),
      isAlive: (life) =>
        [...list.workers().values()].some(
          (each) => each.live && lifeName(each.id, each.incarnation) === life,
        ),
      onServing: (shard) => this.#received(shard),
      onDropped: (shard, reason) => {
        this.#shards.unexpect(shard);
        log.warn({ event: "shard_not_received", shard, reason }, "a shard was not received after all");
      },
      onStep,
      onGuildMoved,
      onPauses,
      onAsk,
      messageMaxBytes: () => this.#guildLog.maxPayloadBytes,
      log,
    });
  }

  #refusal({ shard, shardCount, from }: Offer): string | undefined {
    if (this.#leaving || this.#ended) return "it is leaving";
    if (this.#options.accepts?.(from) === false) return `it takes nothing from ${from} now`;
    if (this.#shards.get(shard) !== undefined) return `it has shard ${shard}`;
    if (shardCount !== this.shardCount) return `it knows ${this.shardCount} shards, not ${shardCount}`;
    return undefined;
  }

  #received(shard: number): void {
    this.#shards.received(shard);
    void this.#options.list.beat();
    this.#options.log.info({ event: "shard_received", shard }, "shard received from another worker");
  }

  #claimed(shard: number, from: string | undefined): void {
    const { log, list } = this.#options;
    // It was served before: guilds may have come into being since we learned which there are.
    if (list.session(shard) !== undefined) this.#loader.forgetKnown();
    this.#shards.open(shard);
    log.info({ event: "shard_claimed", shard, ...(from !== undefined && { from }) }, "shard claimed");
    if (from !== undefined) this.#warmer.warm((guildId) => this.#shardOf(guildId) === shard);
  }

  #makeRunner(shard: number, isReceived: boolean): ShardRunner {
    const { token, bot, log, list, rest, budget, counters, incarnation, onFatal, onRobbed } = this.#options;
    if (isReceived) this.#loader.forgetKnown();
    return new ShardRunner({
      shard,
      shardCount: this.shardCount,
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

  #shardOf(guildId: string): number {
    return shardOf(guildId, this.shardCount);
  }

  #holdsGuild(guildId: string): boolean {
    const shard = this.#shardOf(guildId);
    if (this.#shards.isIncoming(shard)) return true;
    return this.#shards.get(shard) !== undefined && this.#claims.isOurs(shard);
  }
}

function poll(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, pollMs));
}
