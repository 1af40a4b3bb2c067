/**
 * Owns one gateway connection: a @discordjs/ws shard that never decides for itself what happens after its end.
 *
 * The library's shard reconnects on its own and forgets the session on many paths (`destroy` without Resume, a
 * refused TCP connection, a HELLO that came late), and its `destroy` while connecting leaves a second attempt
 * behind. So a connection here lives once: every `destroy`, the library's or ours, ends it and reports why. The
 * state machine in shard.ts makes the next one.
 *
 * A connection can be held at HELLO: it heartbeats, and sends neither IDENTIFY nor RESUME until `release` gives it a
 * session. The library asks for the session once, before it makes the socket, and RESUMEs with that very object as
 * soon as it hears "hello"; so a held one gets a blank object, and "hello" is kept from it until that is filled in.
 *
 * Invariants:
 * - `onEnd` is called once, and no hook after it. A dispatch that comes later counts as not received, and nothing
 *   is sent any more.
 * - The socket is closed with a resumable code unless asked otherwise (Gateway documentation, "Disconnecting":
 *   1000 and 1001 end the session).
 */
import {
  CompressionMethod,
  Encoding,
  type SessionInfo as LibrarySession,
  WebSocketShard,
  type WebSocketShardDestroyOptions,
  WebSocketShardDestroyRecovery,
} from "@discordjs/ws";
import type {
  GatewayDispatchPayload,
  GatewayReadyDispatchData,
  GatewaySendPayload,
} from "discord-api-types/v10";
import type { WebSocket } from "ws";
import { assert, messageOf } from "../core/errors.js";
import { limits } from "../core/limits.js";

export interface ConnectionEnd {
  /** The code Discord closed with; undefined when this side ended it. */
  code: number | undefined;
  /** Discord said that the session is over (opcode 9 with `d: false`). */
  invalidSession: boolean;
  reason: string;
}

export interface ConnectionHooks {
  /** A held connection stands at HELLO. */
  onPrepared(): void;
  /** HELLO is through: IDENTIFY or RESUME follows. */
  onHello(): void;
  onReady(data: GatewayReadyDispatchData): void;
  onResumed(): void;
  onDispatch(payload: GatewayDispatchPayload): void;
  onEnd(end: ConnectionEnd): void;
  onDebug(message: string): void;
  /** The session to RESUME, or null to IDENTIFY. Synchronous: an awaited hook would reorder dispatches. */
  session(): LibrarySession | null;
  /** READY's session. */
  onSession(session: LibrarySession): void;
  waitForIdentify(signal: AbortSignal): Promise<void>;
}

export interface ConnectionOptions {
  shardId: number;
  shardCount: number;
  token: string;
  intents: number;
  gatewayUrl: string;
  compress: boolean;
  /** Goes up to HELLO, no further, until `release`. */
  held: boolean;
}

/** 1006: what `ws` reports when the connection broke without a close frame (RFC 6455). */
const brokenCode = 1006;

/** The library's private parts that an end in the middle of a start needs; pinned by tests of such ends. */
interface Internals {
  connection: WebSocket | null;
  heartbeatInterval: NodeJS.Timeout | null;
  initialHeartbeatTimeoutController: AbortController | null;
}

function internals(shard: WebSocketShard): Internals {
  return shard as unknown as Internals;
}

export class Connection extends WebSocketShard {
  readonly #hooks: ConnectionHooks;
  readonly #life: { ended: boolean };
  /** What a held connection will RESUME with. */
  readonly #blank: LibrarySession;
  #held: boolean;
  #hasHello = false;
  #helloTimer: NodeJS.Timeout | undefined;
  #ended: Promise<void> | undefined;
  #closeCode: number | undefined;

  constructor(options: ConnectionOptions, hooks: ConnectionHooks) {
    const { shardId, shardCount, gatewayUrl, held } = options;
    const life = { ended: false, asked: false };
    const blank = { sessionId: "", sequence: 0, resumeURL: gatewayUrl, shardCount, shardId };
    super(
      {
        options: {
          compression: options.compress ? CompressionMethod.ZlibNative : null,
          encoding: Encoding.JSON,
          handshakeTimeout: limits.gatewayHandshakeTimeoutMs,
          // The library's own would end a connection that is held; see open.
          helloTimeout: null,
          readyTimeout: limits.gatewayReadyTimeoutMs,
          identifyProperties: { os: process.platform, browser: "guildstream", device: "guildstream" },
          initialPresence: null,
          intents: options.intents,
          largeThreshold: null,
          token: options.token,
          useIdentifyCompression: false,
          version: "10",
          shardCount,
          gatewayInformation: {
            url: gatewayUrl,
            shards: shardCount,
            session_start_limit: { total: 0, remaining: 0, reset_after: 0, max_concurrency: 1 },
          },
        },
        // After the end nothing goes on from here, neither a dispatch nor a start that was underway.
        retrieveSessionInfo: () => {
          if (life.ended) return new Promise<never>(() => {});
          const isFirst = !life.asked;
          life.asked = true;
          return isFirst && held ? blank : hooks.session();
        },
        updateSessionInfo: (_shardId, session) => {
          // Called with null by `destroy` and with the next sequence before each dispatch. Neither is the library's
          // to decide: the session is over when Discord says so, and a dispatch counts once it has been taken.
          if (session !== null && session.sessionId !== hooks.session()?.sessionId) hooks.onSession(session);
        },
        waitForIdentify: (_shardId, signal) => hooks.waitForIdentify(signal),
      },
      shardId,
    );
    this.#hooks = hooks;
    this.#life = life;
    this.#blank = blank;
    this.#held = held;
  }

  /** Starts; everything that follows comes through the hooks. */
  open(): void {
    this.#helloTimer = setTimeout(() => this.#end({ reason: "no HELLO" }), limits.gatewayHelloTimeoutMs);
    this.#helloTimer.unref();
    super.connect().catch((error: unknown) => this.#end({ reason: messageOf(error) }));
  }

  /** Lets a held connection RESUME this session: at once if it stands at HELLO, else as soon as it does. */
  release(session: LibrarySession): void {
    assert(this.#held, "only a held connection is released, and once");
    this.#held = false;
    Object.assign(this.#blank, session);
    if (this.#hasHello && this.#ended === undefined) this.emit("hello");
  }

  /** Ends the connection from this side; `code` 1000 ends the session as well. Done once the socket is closed. */
  async end(reason: string, code: number = limits.gatewayResumableCloseCode): Promise<void> {
    this.#end({ reason, closeWith: code });
    await this.#ended;
  }

  /** A start that goes on after the end (it waited for leave to IDENTIFY, say) must not reach Discord. */
  override async send(payload: GatewaySendPayload): Promise<void> {
    if (this.#ended === undefined) await super.send(payload);
  }

  /** Dispatches do not take the way through the emitter: half of the cost of a small one. */
  override emit(event: string | symbol, ...args: unknown[]): boolean {
    switch (event) {
      case "dispatch":
        if (this.#ended === undefined) this.#hooks.onDispatch(args[0] as GatewayDispatchPayload);
        return true;
      case "debug":
        if (this.#ended === undefined) this.#hooks.onDebug(String(args[0]));
        return true;
      case "error":
      case "socketError":
        // A failed inflate, a refused connection, a fatal close code: the end follows, or is made to.
        this.#hooks.onDebug(`gateway ${event}: ${messageOf(args[0])}`);
        if (event === "error" && this.#closeCode === undefined) this.#end({ reason: messageOf(args[0]) });
        return true;
      case "closed":
        this.#closeCode ??= args[0] as number;
        break;
      case "hello":
        if (this.#ended !== undefined) {
          // The library starts to wait for its first heartbeat right after this: stop that.
          queueMicrotask(() => internals(this).initialHeartbeatTimeoutController?.abort());
          return true;
        }
        clearTimeout(this.#helloTimer);
        this.#hasHello = true;
        if (this.#held) {
          this.#hooks.onPrepared();
          return true;
        }
        this.#hooks.onHello();
        break;
      case "ready":
        if (this.#ended === undefined) this.#hooks.onReady(args[0] as GatewayReadyDispatchData);
        break;
      case "resumed":
        if (this.#ended === undefined) this.#hooks.onResumed();
        break;
    }
    return super.emit(event as string, ...(args as never[]));
  }

  /** What the library calls, at any point, when it is done with the connection. */
  override async destroy(options: WebSocketShardDestroyOptions = {}): Promise<void> {
    this.#end({
      reason: options.reason ?? (this.#closeCode === undefined ? "closed" : `closed with ${this.#closeCode}`),
      // The one path on which the library wants a new session and has no code to say so: opcode 9, `d: false`.
      invalidSession:
        options.code === undefined && options.recover === WebSocketShardDestroyRecovery.Reconnect,
    });
    await this.#ended;
  }

  #end(end: { reason: string; invalidSession?: boolean; closeWith?: number }): void {
    if (this.#ended !== undefined) {
      // A heartbeat that was on its way when the connection ended may have started the interval again.
      clearInterval(internals(this).heartbeatInterval ?? undefined);
      return;
    }
    const code = this.#closeCode;
    clearTimeout(this.#helloTimer);
    this.#life.ended = true;
    this.#ended = this.#close(end.closeWith ?? limits.gatewayResumableCloseCode, end.reason);
    this.#hooks.onEnd({
      code: code === brokenCode ? undefined : code,
      invalidSession: end.invalidSession === true,
      reason: end.reason,
    });
  }

  async #close(code: number, reason: string): Promise<void> {
    // A start that was underway has made its socket by then, or never will.
    if (internals(this).connection === null) await new Promise(setImmediate);
    const socket = internals(this).connection;
    if (socket !== null && socket.readyState === socket.CONNECTING) {
      // The library would let it open and sit there. `ws` reports the abort as an error, after onerror was taken away.
      socket.on("error", () => {});
      socket.terminate();
    }
    const cut = setTimeout(() => socket?.terminate(), limits.gatewayCloseTimeoutMs);
    try {
      await super.destroy({ code, reason: reason.slice(0, 100) });
    } finally {
      clearTimeout(cut);
      // Whoever waits for this connection (an IDENTIFY in the queue, say) waits no longer.
      if (this.#closeCode === undefined) this.emit("closed", code);
    }
  }
}
