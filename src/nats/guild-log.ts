/**
 * Owns appending to the guild log and reading from it (design: "the guild log").
 *
 * Invariants:
 * - Every append carries the expected last sequence of its subject (the fence) and a fresh Nats-Msg-Id that is kept
 *   across retries.
 * - An append ends in exactly one outcome. Unknown ones (wrong last sequence, timeout, reconnect, duplicate) are
 *   decided by reading the subject's last message through the stream's leader, however long that takes.
 * - If the process dies between publish and outcome the event may be in the log: the next owner loads from the log.
 *
 * The hot path publishes with a reply subject under one wildcard inbox: no promise and no timer an append; one coarse
 * timer finds those that stay without an answer. Called by the worker's guilds (append) and its loader (reads).
 */
import { createInbox, type Msg, type MsgHdrs, type NatsConnection, StringCodec } from "nats";
import { assert, GuildstreamError, messageOf } from "../core/errors.js";
import { decodeMessage, type LogMessage, type MessageKind } from "../core/event.js";
import { type AppendClaim, judgeAppend, type LastMessage, type Verdict } from "../core/judge.js";
import { limits } from "../core/limits.js";
import {
  expectedSequenceHeader,
  guildsStream,
  kindHeader,
  messageIdHeader,
  rollupHeader,
} from "../core/subjects.js";
import { jetStreamUnavailable } from "./jetstream.js";
import { type StreamInfo, type StreamPlace, streamInfoInTime } from "./stream-info.js";
import { readSubject } from "./subject-reader.js";

export interface Append {
  subject: string;
  kind: MessageKind;
  payload: string;
  claim: AppendClaim;
}

export type AppendOutcome =
  | Exclude<Verdict, { verdict: "retry" }>
  /** The server will never take it; nothing was stored. */
  | { verdict: "refused"; error: GuildstreamError };

/** A message of a guild's subject with its place and what it expected before it. */
export interface StoredMessage {
  seq: number;
  message: LogMessage;
  /** The sequence of the message before it on the subject, as its own fence said. */
  previousSeq: number;
  messageId: string | undefined;
}

interface InFlight extends Append {
  sentAt: number;
  /** How often its outcome was unknown. */
  judged: number;
  done: (outcome: AppendOutcome) => void;
}

const codec = StringCodec();
const getSubject = `$JS.API.STREAM.MSG.GET.${guildsStream}`;
const wrongLastSequence = new Set([10071, 10164]);
const tooLarge = 10054;
const notFound = 10037;

export class GuildLog {
  readonly #nc: NatsConnection;
  readonly #inbox = createInbox();
  readonly #inFlight = new Map<number, InFlight>();
  readonly #timer: NodeJS.Timeout;
  #outgoing: InFlight[] = [];
  #nextToken = 1;
  #nextMessage = 1;
  #judging = 0;
  #closed = false;
  /** Highest sequence acknowledged to us; a stream that ends below it has rewound. */
  #lastSeq = 0;
  /** The life of the stream that it counts in. */
  #created: string | undefined;
  #asking: Promise<StreamInfo> | undefined;
  #confirming: Promise<StreamInfo> | undefined;
  readonly #onTrouble: (fields: object, message: string) => void;
  readonly #toldAt = new Map<string, number>();

  constructor(
    nc: NatsConnection,
    /** Names this process' life: message ids are unique by it. */
    readonly incarnation: string,
    onTrouble: (fields: object, message: string) => void = () => {},
  ) {
    this.#nc = nc;
    this.#onTrouble = onTrouble;
    nc.subscribe(`${this.#inbox}.*`, { callback: (error, msg) => error === null && this.#onAnswer(msg) });
    this.#timer = setInterval(() => this.#scan(), limits.appendScanIntervalMs);
    void this.#watchReconnects();
  }

  get inFlight(): number {
    return this.#inFlight.size + this.#outgoing.length + this.#judging;
  }

  get lastSeq(): number {
    return this.#lastSeq;
  }

  get maxPayloadBytes(): number {
    return this.#nc.info?.max_payload ?? limits.maxPayloadMinBytes;
  }

  /** A fresh Nats-Msg-Id; never made of guild and revision, which a stale writer would share. */
  newMessageId(): string {
    const id = `${this.incarnation}:${this.#nextMessage}`;
    this.#nextMessage += 1;
    return id;
  }

  /** Appends; `done` is called exactly once, unless the log is closed first. */
  append(append: Append, done: (outcome: AppendOutcome) => void): void {
    assert(!this.#closed, "append on a closed log");
    this.#publish({ ...append, sentAt: performance.now(), judged: 0, done });
  }

  /** Forgets what is in flight: for leaving at once. What was sent may or may not be stored. */
  close(): void {
    this.#closed = true;
    clearInterval(this.#timer);
    this.#inFlight.clear();
  }

  /** One write to the socket for all appends of a turn of the event loop, instead of one each. */
  #publish(flight: InFlight): void {
    this.#outgoing.push(flight);
    if (this.#outgoing.length > 1) return;
    setImmediate(() => {
      const outgoing = this.#outgoing;
      this.#outgoing = [];
      if (!this.#closed) for (const each of outgoing) this.#send(each);
    });
  }

  #send(flight: InFlight): void {
    const token = this.#nextToken;
    this.#nextToken += 1;
    flight.sentAt = performance.now();
    this.#inFlight.set(token, flight);
    try {
      this.#nc.publish(flight.subject, flight.payload, {
        reply: `${this.#inbox}.${token}`,
        headers: new AppendHeaders(flight) as unknown as MsgHdrs,
      });
    } catch (cause) {
      this.#inFlight.delete(token);
      if ((cause as { code?: string }).code === "MAX_PAYLOAD_EXCEEDED") {
        flight.done({ verdict: "refused", error: tooLargeError(flight, cause) });
      } else {
        void this.#judge(flight, messageOf(cause));
      }
    }
  }

  #onAnswer(msg: Msg): void {
    const token = Number(msg.subject.slice(this.#inbox.length + 1));
    const flight = this.#inFlight.get(token);
    if (flight === undefined) return; // An answer after its timeout: the judge has it.
    this.#inFlight.delete(token);
    if (msg.data.length === 0) {
      void this.#judge(flight, "no stream listens (JetStream is down or has no leader)");
      return;
    }
    const answer = JSON.parse(codec.decode(msg.data)) as {
      seq?: number;
      duplicate?: boolean;
      error?: { err_code: number; description: string };
    };
    if (answer.error === undefined && answer.duplicate !== true && typeof answer.seq === "number") {
      if (answer.seq > this.#lastSeq) this.#lastSeq = answer.seq;
      flight.done({ verdict: "stored", seq: answer.seq });
    } else if (answer.error?.err_code === tooLarge) {
      flight.done({ verdict: "refused", error: tooLargeError(flight, answer.error.description) });
    } else if (answer.error !== undefined && !wrongLastSequence.has(answer.error.err_code)) {
      void this.#judge(flight, answer.error.description);
    } else {
      void this.#judge(flight, undefined);
    }
  }

  /**
   * Waits until the log's leader answers, reads, decides. `trouble` is what the operator should know; without it
   * somebody has answered, if only that the append was not taken.
   */
  async #judge(flight: InFlight, trouble: string | undefined): Promise<void> {
    this.#judging += 1;
    let waitMs: number = Math.min(limits.judgeRetryMinMs * 2 ** flight.judged, limits.judgeRetryMaxMs);
    flight.judged += 1;
    try {
      if (trouble !== undefined) {
        this.#tell(flight.subject, trouble, "append outcome unknown, reading the log");
        await delay(waitMs);
        await this.#leaderAnswers();
      } else if (flight.judged > 1) {
        // Refused again, though it is not there: the first may be on its way through the replicas still.
        await delay(waitMs);
      }
      let doubted = false;
      while (!this.#closed) {
        try {
          const verdict = judgeAppend(flight.claim, await this.#lastForJudge(flight.subject));
          if (verdict.verdict === "lost" && !doubted) {
            doubted = true;
            if (await this.#mayBeMistaken(flight)) continue;
          }
          if (verdict.verdict === "retry") {
            flight.claim = { ...flight.claim, expectedSeq: verdict.expectedSeq };
            this.#publish(flight);
          } else {
            if (verdict.verdict === "stored" && verdict.seq > this.#lastSeq) this.#lastSeq = verdict.seq;
            flight.done(verdict);
          }
          return;
        } catch (error) {
          this.#tell(flight.subject, messageOf(error), "the log does not answer, trying again");
          await delay(waitMs);
          await this.#leaderAnswers();
          waitMs = Math.min(waitMs * 2, limits.judgeRetryMaxMs);
        }
      }
    } catch (error) {
      if (!this.#closed) throw error;
    } finally {
      this.#judging -= 1;
    }
  }

  /**
   * With replicas a leader that was cut off for a while reads what it had then: heard again before it is believed. All
   * that are in doubt at once wait for the same answer.
   */
  async #mayBeMistaken({ claim }: InFlight): Promise<boolean> {
    const { created, replicas } = await this.#leaderAnswers();
    if (replicas === 1) return false;
    const known = { created: this.#created ?? created, lastSeq: Math.max(this.#lastSeq, claim.expectedSeq) };
    this.#confirming ??= this.#leadersWord(known).finally(() => {
      this.#confirming = undefined;
    });
    await this.#confirming;
    await delay(limits.leaderAskMinMs);
    return true;
  }

  /** Trouble meets every append in flight at once: one of them tells, once a second. */
  #tell(subject: string, trouble: string, message: string): void {
    const now = performance.now();
    if (now - (this.#toldAt.get(trouble) ?? Number.NEGATIVE_INFINITY) < limits.troubleIntervalMs) return;
    this.#toldAt.set(trouble, now);
    this.#onTrouble({ subject, trouble }, message);
  }

  async #lastForJudge(subject: string): Promise<LastMessage | undefined> {
    const last = await this.readLast(subject);
    if (last === undefined) return undefined;
    const { kind, rev, epoch, by } = last.message;
    return { seq: last.seq, messageId: last.messageId, kind, rev, epoch, by };
  }

  #scan(): void {
    const before = performance.now() - limits.appendTimeoutMs;
    for (const [token, flight] of this.#inFlight) {
      if (flight.sentAt > before) break; // In order of sending: the rest is younger.
      this.#inFlight.delete(token);
      void this.#judge(flight, "no answer in time");
    }
  }

  async #watchReconnects(): Promise<void> {
    for await (const status of this.#nc.status()) {
      if (this.#closed) return;
      if (status.type !== "reconnect") continue;
      // What was sent before the connection broke will never be answered on this one.
      const unknown = [...this.#inFlight.values()];
      this.#inFlight.clear();
      for (const flight of unknown) void this.#judge(flight, "the connection was made again");
    }
  }

  /**
   * The last valid message of a subject, through the stream's leader; undefined when there is none.
   * Garbage published by hand is stepped over backwards for the fold, but its sequence counts for the fence.
   */
  async readLast(subject: string): Promise<StoredMessage | undefined> {
    const raw = await this.#get({ last_by_subj: subject });
    if (raw === undefined) return undefined;
    const decoded = decodeStored(raw);
    if (decoded !== undefined) return decoded;
    const valid = await this.#lastValidBefore(subject, raw.seq);
    if (valid === undefined) {
      return {
        seq: raw.seq,
        previousSeq: 0,
        messageId: undefined,
        message: { kind: "tombstone", v: 1, rev: 0, epoch: 0, by: "", at: 0 },
      };
    }
    return { ...valid, seq: raw.seq };
  }

  /** Rare: somebody published garbage on a guild's subject. Walks the subject forwards and keeps the last valid. */
  async #lastValidBefore(subject: string, endSeq: number): Promise<StoredMessage | undefined> {
    let valid: StoredMessage | undefined;
    for await (const stored of this.readAll(subject, endSeq)) valid = stored;
    return valid;
  }

  /** All valid messages of a subject in order, up to a sequence: for repair and rebuild. */
  async *readAll(subject: string, endSeq: number): AsyncGenerator<StoredMessage> {
    let from = 1;
    for (let read = 0; read < limits.readSinglyMax && from <= endSeq; read += 1) {
      const raw = await this.#get({ next_by_subj: subject, seq: from });
      if (raw === undefined || raw.seq > endSeq) return;
      const decoded = decodeStored(raw);
      if (decoded !== undefined) yield decoded;
      from = raw.seq + 1;
    }
    if (from > endSeq) return;
    for await (const { seq, msg } of readSubject(this.#nc, subject, from, endSeq)) {
      const decoded = decode(seq, (name) => msg.headers?.get(name) || undefined, codec.decode(msg.data));
      if (decoded !== undefined) yield decoded;
    }
  }

  /** One message by its sequence, undefined when it is gone or not valid. */
  async readAt(seq: number): Promise<StoredMessage | undefined> {
    const raw = await this.#get({ seq });
    return raw === undefined ? undefined : decodeStored(raw);
  }

  /** The ids of all guilds that the log knows now. */
  async guildIds(): Promise<Set<string>> {
    const ids = new Set<string>();
    for (;;) {
      const body = JSON.stringify({ subjects_filter: "guild.>", offset: ids.size });
      const reply = await this.#request(`$JS.API.STREAM.INFO.${guildsStream}`, body);
      const before = ids.size;
      const subjects = (reply.state as { subjects?: Record<string, number> }).subjects ?? {};
      for (const subject of Object.keys(subjects)) ids.add(subject.slice(subject.lastIndexOf(".") + 1));
      if (ids.size === before || ids.size >= Number(reply.total ?? 0)) return ids;
    }
  }

  /**
   * The stream's life and end, to see whether it rewound; waits for the stream's leader. With replicas an end before
   * what was acknowledged to us is believed only once it is certain.
   */
  async streamEnd(): Promise<StreamPlace> {
    const known =
      this.#created === undefined ? undefined : { created: this.#created, lastSeq: this.#lastSeq };
    const { created, lastSeq } = await this.#leadersWord(known);
    this.#created = created;
    return { created, lastSeq };
  }

  #leadersWord(known?: StreamPlace): Promise<StreamInfo> {
    return streamInfoInTime({
      nc: this.#nc,
      known,
      isStopped: () => this.#closed,
      onTrouble: this.#onTrouble,
    });
  }

  /** Resolves once the stream's leader answers; all appends that wait for it share the questions. */
  #leaderAnswers(): Promise<StreamInfo> {
    this.#asking ??= this.#leadersWord().finally(() => {
      this.#asking = undefined;
    });
    return this.#asking;
  }

  async #get(query: object): Promise<RawMessage | undefined> {
    const reply = await this.#request(getSubject, JSON.stringify(query));
    return reply.message as RawMessage | undefined;
  }

  async #request(subject: string, body: string): Promise<Record<string, unknown>> {
    const deadlineAt = performance.now() + limits.natsRequestTimeoutMs;
    for (;;) {
      const msg = await this.#nc.request(subject, body, { timeout: limits.natsRequestTimeoutMs });
      const reply = JSON.parse(codec.decode(msg.data)) as Record<string, unknown>;
      const error = reply.error as { err_code: number; description: string } | undefined;
      if (error === undefined) return reply;
      if (error.err_code === notFound) return {};
      // A server that has just started says so for all of them; the leader may be well.
      if (error.err_code !== jetStreamUnavailable || performance.now() >= deadlineAt) {
        throw new GuildstreamError("STREAM_FAILED", `the guild log answered: ${error.description}`);
      }
      await delay(limits.leaderAskMinMs);
    }
  }
}

/**
 * The headers of an append, as text at once (NATS ADR-4): the client's own headers keep a map of lists, which costs as
 * much as the rest of a publish. The client calls nothing but `encode` on them.
 */
class AppendHeaders {
  readonly #append: Append;

  constructor(append: Append) {
    this.#append = append;
  }

  encode(): Uint8Array {
    const { claim, kind } = this.#append;
    const rollup = kind === "event" ? "" : `${rollupHeader}: sub\r\n`;
    return Buffer.from(
      `NATS/1.0\r\n${expectedSequenceHeader}: ${claim.expectedSeq}\r\n${messageIdHeader}: ${claim.messageId}\r\n` +
        `${kindHeader}: ${kind}\r\n${rollup}\r\n`,
      "latin1",
    );
  }
}

interface RawMessage {
  subject: string;
  seq: number;
  hdrs?: string;
  data?: string;
}

function decodeStored(raw: RawMessage): StoredMessage | undefined {
  const head = raw.hdrs === undefined ? "" : Buffer.from(raw.hdrs, "base64").toString("utf8");
  const header = (name: string): string | undefined =>
    new RegExp(`^${name}: ?(.*?)\\r?$`, "im").exec(head)?.[1];
  return decode(raw.seq, header, Buffer.from(raw.data ?? "", "base64").toString("utf8"));
}

/** The message if it is a valid one; anybody may have published it. */
function decode(
  seq: number,
  header: (name: string) => string | undefined,
  text: string,
): StoredMessage | undefined {
  try {
    return {
      seq,
      message: decodeMessage(header(kindHeader), text),
      previousSeq: Number(header(expectedSequenceHeader) ?? 0),
      messageId: header(messageIdHeader),
    };
  } catch {
    return undefined;
  }
}

function tooLargeError(append: Append, cause: unknown): GuildstreamError {
  return new GuildstreamError(
    "GUILD_TOO_LARGE",
    `${append.subject}: ${append.payload.length} bytes are too many`,
    {
      cause,
      hint: "keep less in the guild's state, or raise max_payload on the NATS server",
    },
  );
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
