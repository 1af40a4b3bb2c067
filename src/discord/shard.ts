/**
 * Owns one shard: its session, and one gateway connection at a time.
 *
 *   idle --connect()--> connecting --READY / RESUMED--> ready
 *   connecting | ready --connection ended--> waiting --backoff over--> connecting
 *   connecting | ready --onDispatch said full, or pause()--> paused --resume()--> connecting
 *   any --close()--> closed        any --fatal close code--> failed (onFatal)
 *
 * Invariants:
 * - The session's sequence is the last dispatch that `onDispatch` took, never one ahead: a RESUME replays all the
 *   others. (The library's own order is: raise the sequence, then emit.)
 * - Only Discord ends a session: opcode 9 with `d: false`, or a close code that says so. In doubt we RESUME, which
 *   costs nothing; an IDENTIFY is one of a thousand a day.
 * - Trouble with the network is retried for ever with bounded, jittered backoff; it throws nowhere.
 *
 * One @discordjs/ws shard a connection and no WebSocketManager: the manager refuses to RESUME once the daily
 * identifies are spent, and asks REST before every start. Used by the worker.
 */
import type { SessionInfo as LibrarySession } from "@discordjs/ws";
import type { GatewayDispatchPayload, GatewayReadyDispatchData } from "discord-api-types/v10";
import type { Logger } from "../core/bot.js";
import { GuildstreamError, messageOf } from "../core/errors.js";
import { limits } from "../core/limits.js";
import type { SessionEntry } from "../core/members.js";
import { closeCodeError, endsSession } from "./close-codes.js";
import { Connection, type ConnectionEnd } from "./connection.js";

/** What is needed to RESUME: the shape of a checkpoint. */
export type SessionInfo = Omit<SessionEntry, "at">;

/** Gives leave to IDENTIFY: the cluster's budget. Rejects with a GuildstreamError when there is none left. */
export interface IdentifyThrottler {
  waitForIdentify(shardId: number, signal: AbortSignal): Promise<void>;
}

/** What became of the session. */
export type SessionEvent =
  | { kind: "ready"; session: SessionInfo; data: GatewayReadyDispatchData }
  | { kind: "resumed"; session: SessionInfo; replayed: number }
  | { kind: "disconnected"; code: number | undefined; reason: string }
  | { kind: "invalidated"; session: SessionInfo; reason: string };

export type ShardState = "idle" | "connecting" | "ready" | "waiting" | "paused" | "closed" | "failed";

export interface ShardOptions {
  shardId: number;
  shardCount: number;
  token: string;
  intents: number;
  /** Where to connect without a session; see DiscordRest. */
  rest: { gatewayUrl(): Promise<string> };
  /** Resume this one (a checkpoint, a handoff); one of another shard count is of no use. */
  session: SessionInfo | null;
  throttler: IdentifyThrottler;
  /**
   * Takes a dispatch, READY and RESUMED among them. `false` means full: the dispatch counts as not received and the
   * shard pauses. `replayed`: it came between RESUME and RESUMED, so it may be old. Must not throw.
   */
  onDispatch(payload: GatewayDispatchPayload, sessionId: string, replayed: boolean): boolean;
  onSession(event: SessionEvent): void;
  /** The shard has failed for good: a wrong token, an intent that is not granted, no identifies left. */
  onFatal(error: GuildstreamError): void;
  log: Logger;
  /** zlib-stream: less to receive for more to compute. Off by default. */
  compress?: boolean;
}

export class Shard {
  readonly id: number;
  readonly #options: ShardOptions;
  /** One object for as long as the session lives: the library reads it at every dispatch. */
  #session: LibrarySession | null = null;
  #state: ShardState = "idle";
  /** What Discord wants RESUMEs sent to; the library's session has the URL of this attempt. */
  #resumeUrl = "";
  #connection: Connection | undefined;
  /** Done when the last connection's socket is closed; the next one waits for it. */
  #ending: Promise<void> = Promise.resolve();
  /** Counts attempts, so that a late answer to an old one is known. */
  #attempts = 0;
  #timer: NodeJS.Timeout | undefined;
  #failures = 0;
  #readyAt = 0;
  #replaying = false;
  #replayed = 0;
  #identifying = false;
  #dispatches = 0;
  #identifies = 0;
  #resumes = 0;

  constructor(options: ShardOptions) {
    this.id = options.shardId;
    this.#options = options;
    const { session } = options;
    if (session === null) return;
    if (session.shardCount === options.shardCount) {
      this.#session = toLibrary(session, options.shardId);
      this.#resumeUrl = session.resumeUrl;
    } else {
      options.log.info({ shard: this.id, of: session.shardCount }, "the session has another shard count");
    }
  }

  get state(): ShardState {
    return this.#state;
  }

  /** The session as a RESUME would use it now. */
  get session(): SessionInfo | null {
    if (this.#session === null) return null;
    const { sessionId, sequence, shardCount } = this.#session;
    return { sessionId, resumeUrl: this.#resumeUrl, s: sequence, shardCount };
  }

  /** Since the start: IDENTIFYs sent, sessions RESUMEd, dispatches taken. */
  get counts(): { identifies: number; resumes: number; dispatches: number } {
    return { identifies: this.#identifies, resumes: this.#resumes, dispatches: this.#dispatches };
  }

  /** Connects, and stays connected, until `pause` or `close`. Returns at once; see `onSession`. */
  connect(): void {
    if (this.#state !== "idle" && this.#state !== "paused") return;
    this.#attempt();
  }

  /** Goes off the gateway and keeps the session: Discord keeps and replays what comes meanwhile. */
  pause(): void {
    if (this.#state === "closed" || this.#state === "failed" || this.#state === "idle") return;
    this.#leave("paused", "paused");
  }

  /** The opposite of `pause`. */
  resume(): void {
    if (this.#state === "paused") this.#attempt();
  }

  /**
   * Leaves the gateway for good. Resumable: the session lives on at Discord and is returned for another's RESUME.
   * When this is done no dispatch will be taken any more.
   */
  async close(options: { resumable: boolean }): Promise<SessionInfo | null> {
    this.#leave("closed", "closed", options.resumable ? limits.gatewayResumableCloseCode : 1000);
    await this.#ending;
    if (!options.resumable) this.#session = null;
    return this.session;
  }

  #leave(state: "paused" | "closed" | "failed", reason: string, code?: number): void {
    clearTimeout(this.#timer);
    const connection = this.#connection;
    this.#connection = undefined;
    this.#state = state;
    this.#attempts += 1;
    if (connection !== undefined) this.#ending = connection.end(reason, code);
  }

  /** One attempt: the URL, then a connection. What goes wrong leads to the next attempt, or to `onFatal`. */
  #attempt(): void {
    clearTimeout(this.#timer);
    this.#state = "connecting";
    this.#attempts += 1;
    const attempt = this.#attempts;
    const isCurrent = () => this.#attempts === attempt && this.#state === "connecting";
    this.#ending
      .then(() => this.#gatewayUrl())
      .then(
        (url) => isCurrent() && this.#open(url),
        (error: unknown) => isCurrent() && this.#failed(error),
      );
  }

  #gatewayUrl(): string | Promise<string> {
    const useResumeUrl = this.#session !== null && this.#failures < limits.resumeUrlAttemptsMax;
    return useResumeUrl && isGatewayUrl(this.#resumeUrl) ? this.#resumeUrl : this.#options.rest.gatewayUrl();
  }

  #open(url: string): void {
    const { shardId, shardCount, token, intents, compress = false } = this.#options;
    // The library prefers the session's URL to the one it is given.
    if (this.#session !== null) this.#session.resumeURL = url;
    this.#replaying = this.#session !== null;
    this.#replayed = 0;
    const connection: Connection = new Connection(
      { shardId, shardCount, token, intents, gatewayUrl: url, compress },
      {
        session: () => this.#session,
        onSession: (session) => {
          this.#session = { ...session };
          this.#resumeUrl = session.resumeURL;
        },
        onHello: () => this.#watch(connection),
        onReady: (data) => this.#onReady(data),
        onResumed: () => this.#onResumed(),
        onDispatch: (payload) => this.#onDispatch(payload),
        onEnd: (end) => {
          if (this.#connection === connection) this.#onEnd(end);
        },
        onDebug: (message) => this.#options.log.debug({ shard: this.id }, message),
        waitForIdentify: (signal) => this.#waitForIdentify(connection, signal),
      },
    );
    this.#connection = connection;
    connection.open();
  }

  async #waitForIdentify(connection: Connection, signal: AbortSignal): Promise<void> {
    this.#identifying = true;
    try {
      await this.#options.throttler.waitForIdentify(this.id, signal);
      this.#identifies += 1;
    } catch (error) {
      // Leave that is refused for good is not asked for again; anything else is trouble like any other.
      if (!signal.aborted && this.#connection === connection && error instanceof GuildstreamError) {
        this.#fail(error);
      }
      throw error;
    } finally {
      this.#identifying = false;
    }
  }

  /** A RESUME that nobody answers: the library would wait for ever. */
  #watch(connection: Connection): void {
    const seen = this.#dispatches;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (this.#connection !== connection || this.#state !== "connecting") return;
      if (this.#identifying || this.#dispatches !== seen) this.#watch(connection);
      else void connection.end("no answer to IDENTIFY or RESUME");
    }, limits.gatewayReadyTimeoutMs);
    this.#timer.unref();
  }

  #onReady(data: GatewayReadyDispatchData): void {
    const session = this.#session!;
    this.#replaying = false;
    this.#settled();
    this.#options.onSession({ kind: "ready", session: this.session!, data });
    // Passed on from here and not with its dispatch event: this one comes before any dispatch that shares its packet.
    const payload = { op: 0, t: "READY", s: session.sequence, d: data } as GatewayDispatchPayload;
    this.#dispatches += 1;
    if (!this.#options.onDispatch(payload, session.sessionId, false)) this.#full();
  }

  #onResumed(): void {
    this.#resumes += 1;
    this.#replaying = false;
    this.#settled();
    this.#options.onSession({ kind: "resumed", session: this.session!, replayed: this.#replayed });
  }

  #settled(): void {
    clearTimeout(this.#timer);
    this.#state = "ready";
    this.#readyAt = performance.now();
  }

  #onDispatch(payload: GatewayDispatchPayload): void {
    const session = this.#session;
    // READY has been passed on; a dispatch that was taken before (a replay that reached too far back) is not again.
    if (session === null || payload.s <= session.sequence) return;
    if (!this.#options.onDispatch(payload, session.sessionId, this.#replaying)) {
      this.#full();
      return;
    }
    session.sequence = payload.s;
    this.#dispatches += 1;
    if (this.#replaying) this.#replayed += 1;
  }

  #full(): void {
    this.#options.log.warn({ shard: this.id }, "the queue is full: off the gateway until it has drained");
    this.#leave("paused", "the queue is full");
  }

  #onEnd(end: ConnectionEnd): void {
    this.#ending = this.#connection!.end(end.reason);
    this.#connection = undefined;
    clearTimeout(this.#timer);
    const { code, reason } = end;
    const fatal = code === undefined ? undefined : closeCodeError(code, this.#options.intents);
    if (fatal !== undefined) {
      this.#fail(fatal);
      return;
    }
    const stable = this.#state === "ready" && performance.now() - this.#readyAt >= limits.shardStableMs;
    const wasReady = this.#state === "ready";
    if (stable) this.#failures = 0;
    this.#options.onSession({ kind: "disconnected", code, reason });
    const { session } = this;
    if (session !== null && (end.invalidSession || (code !== undefined && endsSession(code)))) {
      this.#session = null;
      this.#options.onSession({ kind: "invalidated", session, reason });
    }
    // The callbacks may have closed or paused the shard.
    if (this.#state !== "connecting" && this.#state !== "ready") return;
    this.#retry(reason, wasReady && this.#failures === 0 ? 0 : this.#backoffMs());
  }

  #failed(error: unknown): void {
    if (error instanceof GuildstreamError && error.code === "DISCORD_TOKEN_INVALID") this.#fail(error);
    else this.#retry(messageOf(error), this.#backoffMs());
  }

  #backoffMs(): number {
    const ceiling = Math.min(
      limits.shardRetryMaxMs,
      limits.shardRetryMinMs * 2 ** Math.min(this.#failures, 10),
    );
    return ceiling * (0.5 + Math.random() / 2);
  }

  #retry(reason: string, delayMs: number): void {
    this.#failures += 1;
    this.#state = "waiting";
    this.#options.log.info({ shard: this.id, reason, delayMs: Math.round(delayMs) }, "the shard reconnects");
    this.#timer = setTimeout(() => this.#attempt(), delayMs);
  }

  #fail(error: GuildstreamError): void {
    this.#leave("failed", error.code);
    this.#options.onFatal(error);
  }
}

function isGatewayUrl(text: string): boolean {
  return /^wss?:\/\//.test(text) && URL.canParse(text);
}

function toLibrary(session: SessionInfo, shardId: number): LibrarySession {
  const { sessionId, resumeUrl, s, shardCount } = session;
  return { sessionId, resumeURL: resumeUrl, sequence: s, shardCount, shardId };
}
