/**
 * One client connection to the gateway: HELLO, heartbeats, and sending its session's stream.
 *
 * Invariants: dispatches leave in sequence order, each at most once per connection (but for the
 * "duplicate" fault); a connection is a cursor (`#next`) over its session's stream and never holds dispatches itself;
 * after the server began to close, nothing the client sends is heeded. What the client asks for is
 * in handshake.ts. Gateway documentation: "Connection Lifecycle".
 */
import type { Socket } from "node:net";
import { GatewayCloseCodes, GatewayOpcodes } from "discord-api-types/v10";
import type { WebSocket } from "ws";
import { handleIdentify, handleRequest, handleResume } from "./handshake.js";
import { LIMITS } from "./limits.js";
import type { Session } from "./session.js";
import type { Simulation } from "./simulation.js";
import { createTransport, DelayLine, type Transport } from "./transport.js";

export class Connection {
  session: Session | null = null;
  readonly #transport: Transport;
  readonly #delay = new DelayLine();
  readonly #zombieTimer: NodeJS.Timeout;
  readonly #identifyTimer: NodeJS.Timeout;
  #closing = false;
  #scheduled = false;
  #next = 1;
  /** Dispatches up to this sequence were there before this connection: they are a replay. */
  #replayUntil = 0;
  #sendsInWindow = 0;
  #sendsWindowAtMs = 0;

  constructor(
    readonly simulation: Simulation,
    /** Where a RESUME is to connect. */
    readonly resumeUrl: string,
    private readonly socket: WebSocket,
    private readonly rawSocket: Socket,
    compressed: boolean,
  ) {
    this.#transport = createTransport(socket, compressed);
    const { heartbeatIntervalMs, identifyTimeoutMs } = simulation.options;
    simulation.counters.connectionsOpened++;
    this.#zombieTimer = setTimeout(() => {
      simulation.counters.zombies++;
      this.close(GatewayCloseCodes.SessionTimedOut, "Session timed out.");
    }, heartbeatIntervalMs * LIMITS.zombieIntervals);
    this.#identifyTimer = setTimeout(() => {
      simulation.counters.identifyTimeouts++;
      this.close(GatewayCloseCodes.SessionTimedOut, "Neither IDENTIFY nor RESUME came.");
    }, identifyTimeoutMs);
    socket.on("message", (data) => this.#onMessage(data.toString()));
    socket.on("close", (code) => this.#onClose(code));
    this.send(GatewayOpcodes.Hello, { heartbeat_interval: heartbeatIntervalMs, _trace: [] });
  }

  /** Dispatches in the session's stream that this connection has yet to send. */
  get unsent(): number {
    return this.session === null ? 0 : this.session.s - this.#next + 1;
  }

  /** Makes this the connection of a session, sending from the dispatch after `seq`. */
  attach(session: Session, seq: number): void {
    clearTimeout(this.#identifyTimer);
    this.session = session;
    session.connection = this;
    if (session.ttlTimer !== null) clearTimeout(session.ttlTimer);
    session.ttlTimer = null;
    this.#next = seq + 1;
    this.#replayUntil = session.s;
    this.schedule();
  }

  /** Sends a payload that is not a dispatch. */
  send(op: GatewayOpcodes, d: unknown): void {
    if (!this.#closing) this.#write(JSON.stringify({ t: null, s: null, op, d }));
  }

  /** Sends what is new in the session when the event loop turns, so that a burst leaves in one write. */
  schedule(): void {
    if (this.#scheduled || this.#closing) return;
    this.#scheduled = true;
    setImmediate(() => this.#pump());
  }

  /** Closes with a code of Gateway "Close Event Codes"; the session stays resumable unless ended. */
  close(code: number, reason = ""): void {
    // The client may have been first: its close frame is here, its end of the socket is not.
    if (this.#closing || this.socket.readyState !== this.socket.OPEN) return;
    this.simulation.counters.countClose("server", code);
    this.#closing = true;
    this.socket.close(code, reason);
  }

  /** Ends the TCP connection without a close frame. */
  drop(): void {
    if (this.#closing) return;
    this.simulation.counters.countClose("server", 1006);
    this.#closing = true;
    this.socket.terminate();
  }

  /** Op 9: tells the client that its session is not (or, if resumable, is still) valid. */
  invalidate(resumable: boolean): void {
    this.send(GatewayOpcodes.InvalidSession, resumable);
    if (resumable || this.session === null) return;
    const session = this.session;
    this.session = null;
    session.connection = null;
    this.simulation.sessions.end(session, "invalidated");
  }

  /** Lets another connection take over the session. */
  surrender(): void {
    this.session = null;
    this.close(GatewayCloseCodes.UnknownError, "Session resumed on another connection.");
  }

  /** Holds back everything sent from now on by this many milliseconds. */
  delay(delayMs: number): void {
    this.#delay.delayMs = delayMs;
  }

  /** Stops reading from the client for a time, as an overloaded server does. */
  pauseReading(pauseMs: number): void {
    this.socket.pause();
    setTimeout(() => this.socket.resume(), pauseMs).unref();
  }

  /** Sends the last dispatches a second time with the sequences they had; returns how many. */
  sendAgain(count: number): number {
    if (this.session === null) return 0;
    const first = Math.max(this.#next - count, this.session.oldestResumable + 1, 1);
    for (let s = first; s < this.#next; s++) {
      const frame = this.session.frame(s, true);
      if (frame !== null) this.#write(frame);
    }
    return Math.max(0, this.#next - first);
  }

  #pump(): void {
    this.#scheduled = false;
    const { session } = this;
    if (session === null || this.#closing) return;
    if (this.#next <= session.oldestResumable) {
      // The client reads slower than the world moves and the window is gone: it has to start over.
      this.simulation.sessions.end(session, "windowExceeded");
      this.session = null;
      this.close(GatewayCloseCodes.UnknownError, "Too far behind: dispatches were lost, identify again.");
      return;
    }
    let budget: number = LIMITS.framesPerTurn;
    this.rawSocket.cork();
    while (this.#next <= session.s && budget > 0 && this.#hasRoom()) {
      const s = this.#next++;
      const frame = session.frame(s, s <= this.#replayUntil);
      if (frame !== null) this.#write(frame, () => this.#onWritten(session, s));
      budget--;
    }
    this.rawSocket.uncork();
    if (this.#next <= session.s && this.#hasRoom()) this.schedule();
  }

  #hasRoom(): boolean {
    return this.#transport.bufferedBytes < LIMITS.socketBufferBytes;
  }

  #onWritten(session: Session, s: number): void {
    session.written(s);
    if (this.#next <= session.s) this.schedule();
  }

  #write(frame: string, written?: () => void): void {
    this.#delay.run(() => {
      if (this.socket.readyState === this.socket.OPEN) this.#transport.send(frame, written);
    });
  }

  #onMessage(text: string): void {
    if (this.#closing) return;
    if (this.#isRateLimited()) {
      this.close(GatewayCloseCodes.RateLimited, "Rate limited.");
      return;
    }
    const payload = parse(text);
    if (payload === null) {
      this.close(GatewayCloseCodes.DecodeError, "Error while decoding payload.");
      return;
    }
    switch (payload.op) {
      case GatewayOpcodes.Heartbeat:
        this.#onHeartbeat(payload.d);
        break;
      case GatewayOpcodes.Identify:
        handleIdentify(this, payload.d);
        break;
      case GatewayOpcodes.Resume:
        handleResume(this, payload.d);
        break;
      case GatewayOpcodes.PresenceUpdate:
      case GatewayOpcodes.VoiceStateUpdate:
      case GatewayOpcodes.RequestGuildMembers:
      case GatewayOpcodes.RequestSoundboardSounds:
        handleRequest(this, payload.op, payload.d);
        break;
      default:
        this.close(GatewayCloseCodes.UnknownOpcode, "Unknown opcode.");
        return;
    }
  }

  #onHeartbeat(d: unknown): void {
    this.simulation.counters.heartbeats++;
    this.#zombieTimer.refresh();
    if (typeof d === "number" && Number.isInteger(d)) this.session?.told(d);
    this.send(GatewayOpcodes.HeartbeatAck, null);
  }

  #isRateLimited(): boolean {
    const nowMs = performance.now();
    if (nowMs - this.#sendsWindowAtMs >= LIMITS.clientSendsWindowMs) {
      this.#sendsWindowAtMs = nowMs;
      this.#sendsInWindow = 0;
    }
    this.#sendsInWindow++;
    return this.#sendsInWindow > LIMITS.clientSends;
  }

  #onClose(code: number): void {
    const byClient = !this.#closing;
    if (byClient) this.simulation.counters.countClose("client", code);
    this.#closing = true;
    clearTimeout(this.#zombieTimer);
    clearTimeout(this.#identifyTimer);
    this.#delay.clear();
    this.#transport.close();
    const { session } = this;
    this.session = null;
    if (session === null) return;
    this.simulation.sessions.detach(session);
    // "Initiating a Disconnect": a client that closes with 1000 or 1001 gives its session up.
    if (byClient && (code === 1000 || code === 1001)) this.simulation.sessions.end(session, "closed");
  }
}

/** The payload of a client, or null if it is no JSON object with an opcode of allowed size. */
function parse(text: string): { op: number; d: unknown } | null {
  if (Buffer.byteLength(text) > LIMITS.clientPayloadBytes) return null;
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== "object" || value === null) return null;
    const { op, d } = value as { op?: unknown; d?: unknown };
    return typeof op === "number" ? { op, d } : null;
  } catch {
    return null;
  }
}
