/**
 * Owns one shard in this worker: its gateway connection and its ring; its checkpoint is in checkpoint.ts.
 *
 * Invariants:
 * - Dispatches are processed in the order Discord sent them; they wait in the ring, nothing is dropped. With the ring
 *   or the guilds' memory full the shard is off the gateway, and Discord keeps them.
 * - The checkpoint never passes a dispatch that has not completed: everything up to it is durable.
 * - A shard that is received from another worker makes no session of its own before it has that one's.
 *
 * If the process dies here: the next owner RESUMEs from the checkpoint, Discord replays what came after it, and the
 * guilds' cursors recognise what was applied already.
 */
import type { GatewayDispatchPayload } from "discord-api-types/v10";
import type { ClusterList } from "../cluster/list.js";
import type { Logger } from "../core/bot.js";
import { never } from "../core/errors.js";
import type { Cursor } from "../core/event.js";
import { limits } from "../core/limits.js";
import { DispatchRing, type RingEntry } from "../core/ring.js";
import { guildIdOf, interactionAt } from "../discord/dispatch.js";
import { type SessionEvent, type SessionInfo, Shard, type ShardOptions } from "../discord/shard.js";
import { Checkpoint } from "./checkpoint.js";
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
    readonly onComplete: () => void,
  ) {
    this.payload = entry.dispatch;
    this.guildId = guildIdOf(entry.dispatch);
    this.session = entry.session;
    this.s = entry.s;
    this.receivedAt = entry.at;
  }

  complete(): void {
    this.ring.complete(this.entry);
    this.onComplete();
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
  /** Another worker has the session and will hand it over: `prepare`, then `resumeAs`, instead of `connect`. */
  isReceived?: boolean;
  /** The session is connected and its checkpoint stored: the shard is served. */
  onConnected(): void;
  /** Another worker moved the checkpoint: this one lost the shard. */
  onLost(): void;
}

export class ShardRunner {
  readonly #options: ShardRunnerOptions;
  readonly #ring: DispatchRing<GatewayDispatchPayload>;
  readonly #gateway: Shard;
  readonly #checkpoint: Checkpoint;
  readonly #timer: NodeJS.Timeout;
  readonly #stopListening: () => void;
  readonly #onComplete = (): void => {
    this.#open -= 1;
  };
  /** Dispatches handed to their guilds and not complete yet. */
  #open = 0;
  #prepared: Promise<boolean> | undefined;
  #processing = false;
  #abandoned = false;
  /** The session of now; what still completes of an older one no longer moves the checkpoint. */
  #session: string | undefined;
  /** Where the session began here: READY, or what another worker had taken of it. */
  #begun: Cursor | undefined;
  /** Of the session before, too: its last dispatches may still be on their way to completion. */
  readonly #resumeUrls = new Map<string, string>();

  constructor(options: ShardRunnerOptions) {
    this.#options = options;
    const { list, shard, shardCount, incarnation, log, isReceived = false } = options;
    this.#checkpoint = new Checkpoint(
      {
        list,
        shard,
        shardCount,
        incarnation,
        log,
        onNewSession: () => this.isConnected && options.onConnected(),
        onLost: options.onLost,
      },
      () => void this.checkpoint(),
    );
    const stored = isReceived ? undefined : this.#checkpoint.stored;
    if (stored !== undefined) this.#resumeUrls.set(stored.sessionId, stored.resumeUrl);
    this.#session = stored?.sessionId;
    const start = stored === undefined ? undefined : { session: stored.sessionId, s: stored.s };
    this.#ring = new DispatchRing(limits.ringSlots, start);
    this.#gateway = new Shard({
      ...options.gateway,
      shardId: shard,
      shardCount,
      session: stored ?? null,
      identify: isReceived ? "refused" : "allowed",
      onDispatch: (payload, sessionId, replayed) => this.#onDispatch(payload, sessionId, replayed),
      onSession: (event) => this.#onSession(event),
      log,
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

  /** Dispatches handed to their guilds and not complete yet. */
  get open(): number {
    return this.#open;
  }

  /** The session as a RESUME would use it now. */
  get session(): SessionInfo | null {
    return this.#gateway.session;
  }

  get isConnected(): boolean {
    return this.#gateway.state === "ready" && this.#checkpoint.stored?.sessionId === this.#session;
  }

  /** Off the gateway because the queue was full. */
  get isPaused(): boolean {
    return this.#gateway.state === "paused";
  }

  connect(): void {
    this.#gateway.connect();
  }

  /** Opens the connection up to HELLO; false when it was told otherwise before it came to that. */
  prepare(resumeUrl: string): Promise<boolean> {
    this.#prepared ??= this.#gateway.prepare(resumeUrl);
    return this.#prepared;
  }

  /** RESUMEs the session that another worker has left. */
  resumeAs(session: SessionInfo): void {
    this.#session = session.sessionId;
    this.#begun = { session: session.sessionId, s: session.s };
    this.#resumeUrls.set(session.sessionId, session.resumeUrl);
    this.#checkpoint.catchUp();
    this.#gateway.resumeAs(session);
  }

  /** The shard is ours for good: should the session end, a new one may be made. */
  allowIdentify(): void {
    this.#gateway.allowIdentify();
  }

  holdCheckpointWhile(mayWrite: () => boolean): void {
    this.#checkpoint.holdWhile(mayWrite);
  }

  /** Leaves the gateway for another worker's RESUME; everything received is with its guild then. */
  async leave(): Promise<SessionInfo | null> {
    const session = await this.#gateway.leave();
    while (this.#processNext()); // Memory may be full: but the guilds are elsewhere by now.
    return session;
  }

  /** Back on the gateway with the session that `leave` gave. */
  comeBack(session: SessionInfo | null): void {
    if (session !== null) this.#gateway.resumeAs(session);
    this.#gateway.allowIdentify();
    if (session === null) this.#gateway.connect();
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
    await this.checkpoint(); // One that was under way,
    await this.checkpoint(); // and the last.
    this.#checkpoint.stop();
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
    this.#checkpoint.stop();
    this.#stopListening();
    await this.#gateway.close({ resumable: true });
  }

  /** Writes how far everything is durable, when that has moved. */
  async checkpoint(): Promise<void> {
    const completed = this.#ring.watermark;
    // A new session is worth storing before anything of it has completed: without it nobody could RESUME.
    const watermark = completed?.session === this.#session ? completed : this.#begun;
    const resumeUrl = watermark === undefined ? undefined : this.#resumeUrls.get(watermark.session);
    if (watermark === undefined || resumeUrl === undefined) return;
    const { session: sessionId, s } = watermark;
    await this.#checkpoint.write({ sessionId, resumeUrl, s, shardCount: this.#options.shardCount });
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
    while (!this.#options.guilds.isFull && this.#processNext());
    this.#processing = false;
    this.#resumeWhenDrained();
  }

  #processNext(): boolean {
    const entry = this.#ring.shift();
    if (entry === undefined) return false;
    this.#open += 1;
    this.#options.guilds.handle(new ShardWork(this.#options.shard, this.#ring, entry, this.#onComplete));
    return true;
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
