/**
 * Owns the table of guilds in memory: routes dispatches to them, lets clean idle ones leave, bounds appends in flight
 * and what the guilds hold.
 *
 * Invariants:
 * - A guild leaves memory only when it is clean (saved by enough database nodes) and quiet.
 * - Dispatches of one guild reach it in the order of the ring.
 * - What the guilds hold is counted as it changes. Over the budget, with nothing more that may leave, the table is
 *   full: the shards hold back dispatches (shard-runner.ts), no load begins (loader.ts). So it is exceeded by no more
 *   than what was on its way: the loads in flight. Nothing is lost: Discord replays what the shards do not take.
 *
 * If the process dies, this table is gone; the log and the checkpoint rebuild it. Called by the shards.
 */
import type { DispatchName } from "../core/bot.js";
import type { GuildDocument } from "../core/document.js";
import { messageOf } from "../core/errors.js";
import type { Effect } from "../core/event.js";
import { limits } from "../core/limits.js";
import { objectIdOf } from "../discord/dispatch.js";
import { Alarm } from "./alarm.js";
import { type Departure, Guild } from "./guild.js";
import type { SavedTracker } from "./saved.js";
import type { GuildServices } from "./services.js";
import type { Work } from "./work.js";

/** Memory of a guild beside its state's text: the object, the map's slot, the state's own objects. */
const guildOverheadBytes = 1_500;
const stateMemoryFactor = 3;

/** A guild that has left; `dirty`: its last event is not saved yet. */
export type DepartedGuild = Departure & { dirty: boolean };

/** Where the dispatches of a shard go that is moving to another worker. */
export interface Route {
  /** True when the dispatch is taken care of; false when the guild is still here. */
  take(work: Work, guildId: string): boolean;
}

export class Guilds {
  readonly #guilds = new Map<string, Guild>();
  readonly #services: GuildServices;
  readonly #saved: SavedTracker;
  readonly #memoryBytes: number;
  readonly #alarm: Alarm;
  /** What the guilds hold, about. */
  #heldBytes = 0;
  #loading = 0;
  #isFull = false;
  readonly #waitingForRoom = new Set<Guild>();
  readonly #routes = new Map<number, Route>();
  readonly #onRoom = new Set<() => void>();
  #timer: NodeJS.Timeout;
  #nextTurnAt = 0;

  constructor(
    services: Omit<GuildServices, "mayAppend" | "abandon" | "resized">,
    saved: SavedTracker,
    memoryBytes: number,
  ) {
    this.#services = {
      ...services,
      mayAppend: (guild) => this.#mayAppend(guild),
      abandon: (guild) => this.#forget(guild),
      resized: (deltaBytes) => this.#hold(deltaBytes * stateMemoryFactor),
      load: (guildId, subject) => this.#load(services.load, guildId, subject),
      appended: (guildId, seq) => {
        services.appended(guildId, seq);
        this.#roomMade();
      },
    };
    this.#saved = saved;
    this.#memoryBytes = memoryBytes;
    this.#alarm = new Alarm(services.log, {
      began: "memory_full",
      over: "memory_free",
      beganText: "MEMORY IS FULL and nothing more may leave: dispatches wait, then shards go off the gateway",
      overText: "there is room in memory again",
    });
    this.#timer = setInterval(() => this.#turn(), limits.evictIntervalMs);
  }

  get size(): number {
    return this.#guilds.size;
  }

  /** No memory for more: see above. */
  get isFull(): boolean {
    return this.#isFull;
  }

  /** Whether a load may begin. Guilds that wait for theirs must not keep each other out, so they do not count. */
  get mayLoad(): boolean {
    const loadedBytes = this.#heldBytes - this.#loading * guildOverheadBytes;
    return !this.#isFull || loadedBytes <= this.#memoryBytes * limits.memoryResumeShare;
  }

  /** Calls back when there may be room for what waits; returns how to stop that. */
  onRoom(listener: () => void): () => void {
    this.#onRoom.add(listener);
    return () => this.#onRoom.delete(listener);
  }

  /** Whether every guild has nothing left to do. */
  get isQuiet(): boolean {
    for (const guild of this.#guilds.values()) if (!guild.isQuiet) return false;
    return true;
  }

  handle(work: Work): void {
    const { guildId } = work;
    if (guildId !== undefined && this.#routes.get(work.shard)?.take(work, guildId) === true) return;
    if (!this.#services.handlers.wants(work.payload.t as DispatchName, work.guildId !== undefined)) {
      work.complete();
      return;
    }
    if (guildId === undefined) this.#handleDirect(work);
    else (this.#guilds.get(guildId) ?? this.#open(guildId)).handle(work);
  }

  has(guildId: string): boolean {
    return this.#guilds.has(guildId);
  }

  /** The guilds of a shard that are in memory. */
  idsOf(shard: number): string[] {
    const ids: string[] = [];
    for (const guild of this.#guilds.values()) if (guild.shard === shard) ids.push(guild.id);
    return ids;
  }

  /** From here on the shard's dispatches are offered to the route first. */
  route(shard: number, route: Route): void {
    this.#routes.set(shard, route);
  }

  unroute(shard: number): void {
    this.#routes.delete(shard);
  }

  /** Takes a guild out of memory for another worker, once nothing of it is underway; false when it is not here. */
  depart(guildId: string, done: (departure: DepartedGuild) => void): boolean {
    const guild = this.#guilds.get(guildId);
    guild?.depart((departure) => {
      const dirty = this.#saved.isDirty(guildId);
      this.#forget(guild);
      done({ ...departure, dirty });
    });
    return guild !== undefined;
  }

  /** Puts a guild into memory that another worker had; `dirty`: its last event is ours to keep until it is saved. */
  adopt(guildId: string, document: GuildDocument, dirty: boolean): void {
    const before = this.#guilds.get(guildId);
    if (before !== undefined) this.#forget(before); // Of an earlier move that was taken back.
    const guild = this.#make(guildId);
    guild.adopt(document);
    if (dirty) this.#saved.appended(guildId, document.seq);
  }

  /** How full memory is: 1 is the budget. */
  get usedShare(): number {
    return this.#heldBytes / this.#memoryBytes;
  }

  /** Loads a guild that has no dispatch yet; false when it is here already. */
  warm(guildId: string): boolean {
    if (this.#guilds.has(guildId) || this.#routes.size > 0) return false;
    this.#open(guildId).lastUsedAt = this.#services.now();
    return true;
  }

  /** The stream ends below what we hold: put back what only memory has now. */
  repairAbove(lastSeq: number): void {
    for (const guild of this.#guilds.values()) if (guild.seq > lastSeq) guild.repair();
  }

  /** Drops the guilds of a shard that another worker serves now. */
  dropShard(shard: number): void {
    for (const guild of this.#guilds.values()) if (guild.shard === shard) this.#forget(guild);
  }

  /** Empties the table: for the end of the process. */
  stop(): void {
    clearInterval(this.#timer);
    for (const guild of this.#guilds.values()) this.#forget(guild);
  }

  /**
   * Clean idle guilds leave; when memory is scarce also less idle ones, about the longest unused first. Some seconds
   * after its last dispatch a guild is kept even then, because a server that dies may lose what it has not written;
   * only when memory is full that shrinks to what a write takes.
   */
  evict(): void {
    const targetBytes = this.#memoryBytes * limits.memoryEvictShare;
    if (!this.#isFull) {
      this.#evictIdle(limits.guildIdleMs, 0);
      for (let idleMs: number = limits.guildIdleMs; idleMs > limits.guildEvictMinIdleMs; ) {
        if (this.#heldBytes <= targetBytes) break;
        idleMs = Math.max(idleMs / 2, limits.guildEvictMinIdleMs);
        this.#evictIdle(idleMs, targetBytes);
      }
    }
    if (this.#isFull || this.#heldBytes > this.#memoryBytes) {
      this.#evictIdle(limits.guildEvictFullIdleMs, targetBytes);
    }
    this.#decideFull();
  }

  /** A pass over very many guilds takes its time; however often the timer comes, it is a small share of all. */
  #turn(): void {
    const startedAt = this.#services.now();
    if (startedAt < this.#nextTurnAt) return;
    this.evict();
    const endedAt = this.#services.now();
    this.#nextTurnAt = endedAt + (endedAt - startedAt) * limits.evictRestFactor;
    if (this.mayLoad) for (const listener of this.#onRoom) listener();
  }

  #decideFull(): void {
    const before = this.#isFull;
    const limitBytes = this.#memoryBytes * (before ? limits.memoryResumeShare : 1);
    this.#isFull = this.#heldBytes > limitBytes;
    this.#alarm.set(this.#isFull, this.#services.now(), () => ({
      heldBytes: this.#heldBytes,
      budgetBytes: this.#memoryBytes,
      guilds: this.#guilds.size,
      dirtyGuilds: this.#saved.dirtyGuilds,
    }));
    if (this.#isFull !== before) {
      clearInterval(this.#timer);
      const intervalMs = this.#isFull ? limits.evictFullIntervalMs : limits.evictIntervalMs;
      this.#timer = setInterval(() => this.#turn(), intervalMs);
    }
  }

  #evictIdle(idleMs: number, downToBytes: number): void {
    const before = this.#services.now() - idleMs;
    for (const guild of this.#guilds.values()) {
      if (this.#heldBytes <= downToBytes) return;
      if (guild.lastUsedAt <= before && guild.isQuiet && !this.#saved.isDirty(guild.id)) this.#forget(guild);
    }
  }

  async #load(load: GuildServices["load"], guildId: string, subject: string): Promise<GuildDocument> {
    this.#loading += 1;
    try {
      return await load(guildId, subject);
    } finally {
      this.#loading -= 1;
    }
  }

  #hold(deltaBytes: number): void {
    this.#heldBytes += deltaBytes;
    // Not before the timer's next turn, unless a burst would take it far over the budget until then.
    if (this.#heldBytes > this.#memoryBytes && !this.#isFull) this.evict();
  }

  #open(guildId: string): Guild {
    const guild = this.#make(guildId);
    guild.load();
    return guild;
  }

  #make(guildId: string): Guild {
    const guild = new Guild(guildId, this.#services);
    this.#guilds.set(guildId, guild);
    this.#hold(guildOverheadBytes);
    return guild;
  }

  #forget(guild: Guild): void {
    guild.drop();
    this.#waitingForRoom.delete(guild);
    this.#guilds.delete(guild.id);
    this.#heldBytes -= guildOverheadBytes + guild.stateBytes * stateMemoryFactor;
  }

  #mayAppend(guild: Guild): boolean {
    if (this.#services.guildLog.inFlight < limits.appendsInFlightMax) return true;
    this.#waitingForRoom.add(guild);
    return false;
  }

  #roomMade(): void {
    for (const guild of this.#waitingForRoom) {
      if (this.#services.guildLog.inFlight >= limits.appendsInFlightMax) return;
      this.#waitingForRoom.delete(guild);
      guild.flushNow();
    }
  }

  #handleDirect(work: Work): void {
    const effects: Effect[] = [];
    const finish = (): void => {
      this.#services.counters.handled += 1;
      void this.#services.send(effects, work.payload.t).finally(() => work.complete());
    };
    const fail = (error: unknown): void => {
      this.#services.counters.handlerErrors += 1;
      this.#services.log.error(
        { event: "handler_failed", t: work.payload.t, id: objectIdOf(work.payload), error: messageOf(error) },
        "a handler failed",
      );
      work.complete();
    };
    try {
      const result = this.#services.handlers.runDirect(work, effects);
      if (result === undefined) finish();
      else result.then(finish, fail);
    } catch (error) {
      fail(error);
    }
  }
}
