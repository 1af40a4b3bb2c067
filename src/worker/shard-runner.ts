/**
 * Owns one claimed shard in this worker: its gateway connection, its ring, its checkpoint.
 *
 * Invariants:
 * - Dispatches are processed in the order Discord sent them; they wait in the ring, nothing is dropped. They also wait
 *   there while memory is full, so that a moment of it costs no RESUME. When the ring holds what it may, the shard is
 *   off the gateway, and Discord keeps them.
 * - The checkpoint in the list-server never passes a dispatch that has not completed: everything up to it is durable.
 * - The checkpoint is written by compare-and-set: a worker that lost the shard cannot move it any more.
 *
 * If the process dies here: the next owner RESUMEs from the checkpoint, Discord replays what came after it, and the
 * guilds' cursors recognise what was applied already.
 */
import type { GatewayDispatchPayload } from "discord-api-types/v10";
import type { ClusterList } from "../cluster/list.js";
import type { Logger } from "../core/bot.js";
import { messageOf, never } from "../core/errors.js";
import type { Cursor } from "../core/event.js";
import { limits } from "../core/limits.js";
import type { SessionEntry } from "../core/members.js";
import { DispatchRing, type RingEntry } from "../core/ring.js";
import { clusterKeys } from "../core/subjects.js";
import { guildIdOf, interactionAt } from "../discord/dispatch.js";
import { type SessionEvent, Shard, type ShardOptions } from "../discord/shard.js";
import type { Guilds } from "./guilds.js";
import type { Counters } from "./services.js";
import type { Work } from "./work.js";

/** What is left to do before a shard that is closed may be given away. */
const settlePollMs = 5;

class ShardWork implements Work {
  readonly payload: GatewayDispatchPayload;
  readonly guildId: string | undefined;
  readonly session: string;
  readonly s: number;
  readonly receivedAt: number;

  constructor(
    readonly shard: number,
    readonly ring: DispatchRing<GatewayDispatchPayload>,
    readonly entry: RingEntry<GatewayDispatchPayload>,
  ) {
    this.payload = entry.dispatch;
    this.guildId = guildIdOf(entry.dispatch);
    this.session = entry.session;
    this.s = entry.s;
    this.receivedAt = entry.at;
  }

  complete(): void {
    this.ring.complete(this.entry);
  }
}

export interface ShardRunnerOptions {
  shard: number;
  shardCount: number;
  list: ClusterList;
  guilds: Guilds;
  counters: Counters;
  /** This worker's life, as its claims name it. */
  incarnation: string;
  log: Logger;
  gateway: Pick<ShardOptions, "token" | "intents" | "rest" | "throttler" | "onFatal">;
  /** The session is connected and its checkpoint stored: the shard is served. */
  onConnected(): void;
  /** Another worker moved the checkpoint: this one lost the shard. */
  onLost(): void;
}

export class ShardRunner {
  readonly #options: ShardRunnerOptions;
  readonly #ring: DispatchRing<GatewayDispatchPayload>;
  readonly #gateway: Shard;
  readonly #timer: NodeJS.Timeout;
  readonly #stopListening: () => void;
  #checkpointed: SessionEntry | undefined;
  #revision: number;
  #writing = false;
  #processing = false;
  #abandoned = false;
  /** The session of now; what still completes of an older one no longer moves the checkpoint. */
  #session: string | undefined;
  /** Where the session began: READY. */
  #begun: Cursor | undefined;
  /** The list-server was made anew: what it should know of the session, it does not. */
  #unlisted = false;
  readonly #stopRebuilt: () => void;
  /** Of the session before, too: its last dispatches may still be on their way to completion. */
  readonly #resumeUrls = new Map<string, string>();

  constructor(options: ShardRunnerOptions) {
    this.#options = options;
    const { list, shard, shardCount } = options;
    const stored = list.session(shard);
    this.#revision = list.revisionOf(clusterKeys.session(shard));
    const usable = stored?.shardCount === shardCount ? stored : undefined;
    this.#checkpointed = usable;
    if (usable !== undefined) this.#resumeUrls.set(usable.sessionId, usable.resumeUrl);
    this.#session = usable?.sessionId;
    const start = usable === undefined ? undefined : { session: usable.sessionId, s: usable.s };
    this.#ring = new DispatchRing(limits.ringSlots, start);
    this.#gateway = new Shard({
      ...options.gateway,
      shardId: shard,
      shardCount,
      session: usable ?? null,
      onDispatch: (payload, sessionId, replayed) => this.#onDispatch(payload, sessionId, replayed),
      onSession: (event) => this.#onSession(event),
      log: options.log,
    });
    this.#stopRebuilt = list.onRebuilt(() => {
      this.#revision = 0;
      this.#unlisted = true;
      void this.checkpoint();
    });
    this.#stopListening = options.guilds.onRoom(() => {
      if (!this.#processing) this.#process();
    });
    this.#timer = setInterval(() => {
      this.#resumeWhenDrained();
      void this.checkpoint();
    }, limits.checkpointIntervalMs);
  }

  get counts(): { identifies: number; resumes: number } {
    return this.#gateway.counts;
  }

  get queued(): number {
    return this.#ring.queued;
  }

  get isConnected(): boolean {
    return this.#gateway.state === "ready" && this.#checkpointed?.sessionId === this.#session;
  }

  /** Off the gateway because the queue was full. */
  get isPaused(): boolean {
    return this.#gateway.state === "paused";
  }

  connect(): void {
    this.#gateway.connect();
  }

  /** Closes the connection so that the session lives on, lets everything received complete, writes the checkpoint. */
  async close(deadlineAt: number): Promise<void> {
    // An IDENTIFY on its way to READY is spent already: its session is worth waiting for.
    const { counts, session, state } = this.#gateway;
    const waitUntil = Math.min(deadlineAt, performance.now() + limits.gatewayReadyTimeoutMs);
    if (state === "connecting" && session === null && counts.identifies > 0) {
      while (this.#gateway.session === null && performance.now() < waitUntil) await settle();
    }
    await this.#gateway.close({ resumable: true });
    while (!this.#ring.isEmpty && performance.now() < deadlineAt) {
      this.#process();
      await settle();
    }
    clearInterval(this.#timer);
    this.#stopListening();
    while (this.#writing && performance.now() < deadlineAt) await settle();
    await this.checkpoint();
    this.#stopRebuilt();
    if (this.#ring.isEmpty) return;
    // Nothing is lost: the checkpoint stands before it, and Discord replays it to whoever RESUMEs.
    const { shard, log } = this.#options;
    log.warn(
      { event: "shard_left_unfinished", shard, held: this.#ring.held },
      "left to the next owner's RESUME",
    );
  }

  /** Stops at once, without a checkpoint: the shard is another worker's. */
  async abandon(): Promise<void> {
    this.#abandoned = true;
    clearInterval(this.#timer);
    this.#stopRebuilt();
    this.#stopListening();
    await this.#gateway.close({ resumable: true });
  }

  /** Writes how far everything is durable, when that has moved. */
  async checkpoint(): Promise<void> {
    const completed = this.#ring.watermark;
    // A new session is worth storing before anything of it has completed: without it nobody could RESUME.
    const watermark = completed?.session === this.#session ? completed : this.#begun;
    if (this.#writing || watermark === undefined) return;
    const resumeUrl = this.#resumeUrls.get(watermark.session);
    if (resumeUrl === undefined) return;
    const before = this.#checkpointed;
    if (!this.#unlisted && before?.sessionId === watermark.session && before.s >= watermark.s) return;
    const { list, shard, shardCount, log } = this.#options;
    const entry = { sessionId: watermark.session, resumeUrl, s: watermark.s, shardCount, at: Date.now() };
    const key = clusterKeys.session(shard);
    this.#writing = true;
    try {
      const revision = await list.compareAndSet(key, entry, this.#revision);
      if (revision !== undefined) {
        this.#revision = revision;
        this.#checkpointed = entry;
        this.#unlisted = false;
        if (before?.sessionId !== entry.sessionId && this.isConnected) this.#options.onConnected();
        return;
      }
      // Ours after all (an answer that got lost, a bucket made anew), or another owner's: the claim tells.
      if (list.shard(shard)?.incarnation === this.#options.incarnation) {
        this.#revision = (await list.get(key))?.revision ?? 0;
      } else {
        log.warn({ event: "checkpoint_lost", shard }, "another worker holds this shard");
        this.#options.onLost();
      }
    } catch (error) {
      log.warn(
        { event: "checkpoint_failed", shard, error: messageOf(error) },
        "the list-server does not answer",
      );
    } finally {
      this.#writing = false;
    }
  }

  #onDispatch(payload: GatewayDispatchPayload, sessionId: string, replayed: boolean): boolean {
    let at = Date.now();
    // An interaction's 3 s began when it was made, not when a RESUME brought it.
    if (payload.t === "INTERACTION_CREATE") at = interactionAt(payload.d, at, replayed);
    const waitsForMemory = this.#options.guilds.isFull && this.#ring.queued >= limits.ringQueuedFullMax;
    if (this.#abandoned || waitsForMemory || !this.#ring.push(payload, sessionId, payload.s, at))
      return false;
    this.#options.counters.dispatches += 1;
    if (!this.#processing) this.#process();
    return true;
  }

  #onSession(event: SessionEvent): void {
    const { log, shard } = this.#options;
    switch (event.kind) {
      case "ready":
        this.#resumeUrls.set(event.session.sessionId, event.session.resumeUrl);
        this.#session = event.session.sessionId;
        this.#begun = { session: event.session.sessionId, s: event.session.s };
        void this.checkpoint();
        log.info({ event: "shard_identified", shard }, "shard ready with a new session");
        return;
      case "resumed":
        log.info({ event: "shard_resumed", shard, replayed: event.replayed }, "shard resumed its session");
        this.#options.onConnected();
        return;
      case "disconnected":
        log.info(
          { event: "shard_disconnected", shard, code: event.code, reason: event.reason },
          "shard disconnected",
        );
        return;
      case "invalidated":
        log.warn({ event: "session_invalidated", shard, reason: event.reason }, "Discord ended the session");
        return;
      default:
        never(event);
    }
  }

  #process(): void {
    this.#processing = true;
    const { guilds } = this.#options;
    while (!guilds.isFull) {
      const entry = this.#ring.shift();
      if (entry === undefined) break;
      guilds.handle(new ShardWork(this.#options.shard, this.#ring, entry));
    }
    this.#processing = false;
    this.#resumeWhenDrained();
  }

  /** The ring or memory was full, the shard went off the gateway: back once there is room for some time. */
  #resumeWhenDrained(): void {
    if (this.#gateway.state !== "paused" || this.#options.guilds.isFull) return;
    if (this.#ring.held < limits.ringSlots * limits.ringResumeShare) this.#gateway.resume();
  }
}

function settle(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, settlePollMs));
}
