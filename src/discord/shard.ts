/**
 * Owns one shard: its session, and one gateway connection at a time.
 *
 *   idle --connect()--> connecting --READY / RESUMED--> ready
 *   connecting | ready --connection ended--> waiting --backoff over--> connecting
 *   connecting | ready --onDispatch said full, or pause()--> paused --resume()--> connecting
 *   connecting | ready --session over, IDENTIFY refused--> barred --allowIdentify(), resumeAs()--> connecting
 *   any --close()--> closed        any --fatal close code--> failed (onFatal)
 *
 * A session moves from one shard object to another (of another process, as a rule) without a gap:
 *
 *   there:  idle --prepare()--> preparing --HELLO--> prepared --connection ended--> preparing
 *   here:   ready (or any other) --leave(): the session and its last sequence--> idle
 *   there:  prepared --resumeAs(session): RESUME leaves at once--> connecting --RESUMED--> ready
 *
 * Invariants:
 * - The session's sequence is the last dispatch that `onDispatch` took, never one ahead: a RESUME replays all the
 *   others. (The library's own order is: raise the sequence, then emit.)
 * - Only Discord ends a session: opcode 9 with `d: false`, or a close code that says so. In doubt we RESUME, which
 *   costs nothing; an IDENTIFY is one of a thousand a day.
 * - Who has given the session away, or was made with IDENTIFY refused, makes no other before `allowIdentify`.
 * - Trouble with the network is retried for ever with bounded, jittered backoff; it throws nowhere.
 *
 * If the process dies between `leave` and the other's RESUME, Discord keeps the session for minutes; whoever RESUMEs
 * from a checkpoint gets all that came since.
 *
 * One @discordjs/ws shard a connection and no WebSocketManager: the manager refuses to RESUME once the daily
 * identifies are spent, and asks REST before every start. Used by the worker.
 */
import type { GatewayDispatchPayload, GatewayReadyDispatchData } from "discord-api-types/v10";
import { assert, GuildstreamError, messageOf } from "../core/errors.js";
import { limits } from "../core/limits.js";
import { Backoff } from "./backoff.js";
import { closeCodeError, endsSession } from "./close-codes.js";
import { Connection, type ConnectionEnd } from "./connection.js";
import { isGatewayUrl, isSameGateway, Session, type SessionInfo } from "./session.js";
import type { ShardOptions, ShardState } from "./shard-options.js";

export type { SessionInfo } from "./session.js";
export type { IdentifyThrottler, SessionEvent, ShardOptions, ShardState } from "./shard-options.js";

export class Shard {
  readonly id: number;
  readonly #options: ShardOptions;
  #session: Session | null = null;
  #state: ShardState = "idle";
  #identify: "allowed" | "refused";
  #connection: Connection | undefined;
  /** Done when the last connection's socket is closed; the next one waits for it. */
  #ending: Promise<void> = Promise.resolve();
  /** The same for prepared connections: the session was never on them, so only `close` waits. */
  #dropped: Promise<unknown> = Promise.resolve();
  /** Counts attempts, so that a late answer to an old one is known. */
  #attempts = 0;
  readonly #backoff = new Backoff();
  #timer: NodeJS.Timeout | undefined;
  #upAt = 0;
  /** Where the connection of now goes, and where `prepare` was told to. */
  #url: string | undefined;
  #preparedUrl: string | undefined;
  #onPrepared: ((isPrepared: boolean) => void) | undefined;
  /** Of a prepared connection that was released: no answer to its RESUME yet. */
  #released = false;
  #replaying = false;
  #replayed = 0;
  #identifying = false;
  #dispatches = 0;
  #identifies = 0;
  #resumes = 0;

  constructor(options: ShardOptions) {
    this.id = options.shardId;
    this.#options = options;
    this.#identify = options.identify ?? "allowed";
    const { session } = options;
    if (session === null) return;
    if (session.shardCount === options.shardCount) this.#session = Session.of(session, options.shardId);
    else options.log.info({ shard: this.id, of: session.shardCount }, "the session has another shard count");
  }

  get state(): ShardState {
    return this.#state;
  }

  /** The session as a RESUME would use it now. */
  get session(): SessionInfo | null {
    return this.#session?.info ?? null;
  }

  /** Since the start: IDENTIFYs sent, sessions RESUMEd, dispatches taken. */
  get counts(): { identifies: number; resumes: number; dispatches: number } {
    return { identifies: this.#identifies, resumes: this.#resumes, dispatches: this.#dispatches };
  }

  /** Connects, and stays connected, until `pause`, `leave` or `close`. Returns at once; see `onSession`. */
  connect(): void {
    if (this.#isHeld) this.#dropHeld();
    else if (this.#state !== "idle" && this.#state !== "paused") return;
    this.#attempt("connecting");
  }

  /** Goes off the gateway and keeps the session: Discord keeps and replays what comes meanwhile. */
  pause(): void {
    if (this.#isUnderway) this.#disconnect("paused", "paused");
  }

  /** The opposite of `pause`. */
  resume(): void {
    if (this.#state === "paused") this.#attempt("connecting");
  }

  /**
   * Opens a connection for a session that is to come, up to HELLO, and keeps one open until `resumeAs`.
   *
   * @param url the resume URL of that session as far as it is known; else the general gateway URL is taken.
   * @returns whether the shard came to be prepared; false when it was told otherwise before.
   */
  prepare(url?: string): Promise<boolean> {
    assert(
      this.#state === "idle" && this.#session === null,
      "only an idle shard without a session is prepared",
    );
    this.#preparedUrl = url;
    return new Promise((resolve) => {
      this.#onPrepared = resolve;
      this.#attempt("preparing");
    });
  }

  /**
   * Takes a session over: RESUMEs on the prepared connection, or on a new one if there is none, or none that leads to
   * the session's resume URL.
   */
  resumeAs(info: SessionInfo): void {
    assert(info.shardCount === this.#options.shardCount, "the session has the shard's count");
    assert(this.#isHeld || this.#state === "idle" || this.#state === "barred", "the shard has no session");
    const session = Session.of(info, this.id);
    this.#session = session;
    const connection = this.#connection;
    // The second: that URL did not answer, so this connection is the next best.
    const leadsThere =
      isSameGateway(session.resumeUrl, this.#url) || isSameGateway(session.resumeUrl, this.#preparedUrl);
    if (connection === undefined || !leadsThere) {
      this.#dropHeld();
      this.#attempt("connecting");
      return;
    }
    this.#settlePrepared(false);
    this.#backoff.reset();
    this.#state = "connecting";
    this.#released = true;
    this.#replaying = true;
    this.#replayed = 0;
    connection.release(session.library);
  }

  /** From here on a shard without a session makes a new one. */
  allowIdentify(): void {
    this.#identify = "allowed";
    if (this.#state === "barred") this.#attempt("connecting");
  }

  /**
   * Gives the session away, resumable: what is returned is for another's `resumeAs`. Nothing is taken from here on,
   * and no IDENTIFY leaves before `allowIdentify`. The shard is idle then.
   *
   * The peer's share in closing the connection takes a round trip that is not waited for (`close` would): should the
   * other's RESUME overtake our close frame, Discord closes this connection, as it does for everybody who RESUMEs
   * before an old connection has timed out. `close` still waits for the socket.
   *
   * @returns null when there was no session: before READY there is nothing to give.
   */
  async leave(): Promise<SessionInfo | null> {
    const wasReady = this.#state === "ready";
    const session = this.#session;
    if (this.#state !== "closed" && this.#state !== "failed") this.#disconnect("idle", "handed over");
    this.#session = null;
    this.#identify = "refused";
    // A RESUME of ours without an answer must not reach Discord after the other's: it would take the session back.
    if (wasReady) await new Promise(setImmediate);
    else await this.#ending;
    return session?.info ?? null;
  }

  /**
   * Leaves the gateway for good. Resumable: the session lives on at Discord and is returned for another's RESUME.
   * When this is done no dispatch will be taken any more, and all sockets are closed.
   */
  async close(options: { resumable: boolean }): Promise<SessionInfo | null> {
    this.#disconnect("closed", "closed", options.resumable ? limits.gatewayResumableCloseCode : 1000);
    await Promise.all([this.#ending, this.#dropped]);
    if (!options.resumable) this.#session = null;
    return this.session;
  }

  /** With a connection, or between two, that is to carry a session. */
  get #isUnderway(): boolean {
    return this.#state === "connecting" || this.#state === "ready" || this.#state === "waiting";
  }

  /** With a connection, or between two, that is kept at HELLO. */
  get #isHeld(): boolean {
    return this.#state === "preparing" || this.#state === "prepared";
  }

  #disconnect(state: "idle" | "paused" | "closed" | "failed", reason: string, code?: number): void {
    clearTimeout(this.#timer);
    const connection = this.#connection;
    this.#connection = undefined;
    this.#state = state;
    this.#attempts += 1;
    this.#settlePrepared(false);
    if (connection !== undefined) this.#ending = connection.end(reason, code);
  }

  #settlePrepared(isPrepared: boolean): void {
    this.#onPrepared?.(isPrepared);
    this.#onPrepared = undefined;
  }

  /** Ends a prepared connection that is of no use, or gives the wait for one up. */
  #dropHeld(): void {
    const connection = this.#connection;
    this.#connection = undefined;
    this.#settlePrepared(false);
    this.#backoff.reset();
    if (connection !== undefined) this.#dropped = Promise.all([this.#dropped, connection.end("not needed")]);
  }

  /** One attempt: the URL, then a connection. What goes wrong leads to the next attempt, or to `onFatal`. */
  #attempt(state: "connecting" | "preparing"): void {
    clearTimeout(this.#timer);
    if (state === "connecting" && this.#bar()) return;
    this.#state = state;
    this.#attempts += 1;
    const attempt = this.#attempts;
    const isCurrent = () => this.#attempts === attempt && this.#state === state;
    this.#ending
      .then(() => this.#gatewayUrl())
      .then(
        (url) => isCurrent() && this.#open(url),
        (error: unknown) => isCurrent() && this.#failed(error),
      );
  }

  /** Without a session, and without leave to make one, there is nothing to attempt. */
  #bar(): boolean {
    if (this.#session !== null || this.#identify === "allowed") return false;
    this.#options.log.warn({ shard: this.id }, "no session, and IDENTIFY is refused: the shard waits");
    this.#state = "barred";
    return true;
  }

  #gatewayUrl(): string | Promise<string> {
    const url = this.#state === "preparing" ? this.#preparedUrl : this.#session?.resumeUrl;
    if (isGatewayUrl(url) && this.#backoff.failures < limits.resumeUrlAttemptsMax) return url;
    return this.#options.rest.gatewayUrl();
  }

  #open(url: string): void {
    const { shardId, shardCount, token, intents, compress = false } = this.#options;
    // The library prefers the session's URL to the one it is given.
    if (this.#session !== null) this.#session.library.resumeURL = url;
    this.#url = url;
    this.#released = false;
    this.#replaying = this.#session !== null;
    this.#replayed = 0;
    const connection: Connection = new Connection(
      { shardId, shardCount, token, intents, gatewayUrl: url, compress, held: this.#isHeld },
      {
        session: () => this.#session?.library ?? null,
        onSession: (session) => {
          this.#session = new Session({ ...session }, session.resumeURL);
        },
        onPrepared: () => {
          this.#state = "prepared";
          this.#upAt = performance.now();
          this.#settlePrepared(true);
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
    } catch (error) {
      // Leave that is refused for good is not asked for again; anything else is trouble like any other.
      if (!signal.aborted && this.#connection === connection && error instanceof GuildstreamError) {
        this.#fail(error);
      }
      throw error;
    } finally {
      this.#identifying = false;
    }
    // The connection may have ended meanwhile: then nothing leaves.
    if (this.#connection === connection) this.#identifies += 1;
  }

  /** A RESUME that nobody answers: the library would wait for ever. */
  #watch(connection: Connection): void {
    const seen = this.#dispatches;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(
      () => {
        if (this.#connection !== connection || this.#state !== "connecting") return;
        if (this.#identifying || this.#dispatches !== seen) this.#watch(connection);
        else void connection.end("no answer to IDENTIFY or RESUME");
      },
      this.#released ? limits.gatewayPreparedTimeoutMs : limits.gatewayReadyTimeoutMs,
    );
    this.#timer.unref();
  }

  #onReady(data: GatewayReadyDispatchData): void {
    const { info } = this.#session!;
    this.#settled();
    this.#options.onSession({ kind: "ready", session: info, data });
    // Passed on from here and not with its dispatch event: this one comes before any dispatch that shares its packet.
    const payload = { op: 0, t: "READY", s: info.s, d: data } as GatewayDispatchPayload;
    this.#dispatches += 1;
    if (!this.#options.onDispatch(payload, info.sessionId, false)) this.#full();
  }

  #onResumed(): void {
    this.#resumes += 1;
    this.#settled();
    this.#options.onSession({ kind: "resumed", session: this.session!, replayed: this.#replayed });
  }

  #settled(): void {
    clearTimeout(this.#timer);
    this.#state = "ready";
    this.#upAt = performance.now();
    this.#released = false;
    this.#replaying = false;
  }

  #onDispatch(payload: GatewayDispatchPayload): void {
    const session = this.#session?.library;
    // READY has been passed on; a dispatch that was taken before (a replay that reached too far back) is not again.
    if (session === undefined || payload.s <= session.sequence) return;
    if (!this.#options.onDispatch(payload, session.sessionId, this.#replaying)) {
      this.#full();
      return;
    }
    session.sequence = payload.s;
    this.#dispatches += 1;
    if (!this.#replaying) return;
    this.#replayed += 1;
    this.#released = false;
  }

  #full(): void {
    // The callback that said so may have closed the shard, or given its session away.
    if (!this.#isUnderway) return;
    this.#options.log.warn({ shard: this.id }, "no room for more: off the gateway until there is");
    this.#disconnect("paused", "no room for more");
  }

  #onEnd({ code, invalidSession, reason }: ConnectionEnd): void {
    const state = this.#state;
    const wasHeld = this.#isHeld;
    const ending = this.#connection!.end(reason);
    if (wasHeld) this.#dropped = Promise.all([this.#dropped, ending]);
    else this.#ending = ending;
    this.#connection = undefined;
    clearTimeout(this.#timer);
    const fatal = code === undefined ? undefined : closeCodeError(code, this.#options.intents);
    if (fatal !== undefined) {
      this.#fail(fatal);
      return;
    }
    const wasUp = state === "ready" || state === "prepared";
    if (wasUp && performance.now() - this.#upAt >= limits.shardStableMs) this.#backoff.reset();
    const attempt = this.#attempts;
    if (!wasHeld) {
      this.#options.onSession({ kind: "disconnected", code, reason });
      const isOver = invalidSession || (code !== undefined && endsSession(code));
      // A prepared connection that ends when it was just released: what was said may be for its time before, not for
      // the session. The next RESUME brings the answer.
      if (isOver && !this.#released) this.#invalidate(reason);
    }
    // The callbacks may have closed or paused the shard.
    if (this.#attempts === attempt) this.#retry(reason, this.#backoff.nextMs(wasUp || this.#released));
  }

  #invalidate(reason: string): void {
    const { session } = this;
    if (session === null) return;
    this.#session = null;
    this.#options.onSession({ kind: "invalidated", session, reason });
  }

  #failed(error: unknown): void {
    if (error instanceof GuildstreamError && error.code === "DISCORD_TOKEN_INVALID") this.#fail(error);
    else this.#retry(messageOf(error), this.#backoff.nextMs(false));
  }

  #retry(reason: string, delayMs: number): void {
    const next = this.#isHeld ? "preparing" : "connecting";
    if (next === "connecting" && this.#bar()) return;
    this.#state = next === "preparing" ? next : "waiting";
    this.#options.log.info({ shard: this.id, reason, delayMs: Math.round(delayMs) }, "the shard reconnects");
    this.#timer = setTimeout(() => this.#attempt(next), delayMs);
  }

  #fail(error: GuildstreamError): void {
    this.#disconnect("failed", error.code);
    this.#options.onFatal(error);
  }
}
