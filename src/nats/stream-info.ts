/**
 * Owns what a stream says of itself, the guild log above all, and when that is to be believed.
 *
 * Invariants:
 * - Only the stream's leader is believed. A replica that knows of no leader answers too, and so does one that has just
 *   started, each from its own store, which may lack the end: a stream that seems to have lost what it acknowledged.
 * - A leader that is cut off from the others holds itself for one until it has missed them for a while. So a replicated
 *   stream that seems to end too early, or to be another one, is asked again until that has held for longer.
 *
 * Called by the guild log (worker), the database node before it reads on, and the operator's views. Nothing is kept
 * here: if the process dies, the next one asks again.
 */
import { type NatsConnection, StringCodec } from "nats";
import { GuildstreamError, messageOf } from "../core/errors.js";
import { limits } from "../core/limits.js";
import { guildsStream } from "../core/subjects.js";

export interface StreamInfo {
  created: string;
  firstSeq: number;
  lastSeq: number;
  /** How many servers hold it now. */
  replicas: number;
}

/** A place in one life of the stream. */
export type StreamPlace = Pick<StreamInfo, "created" | "lastSeq">;

interface InfoReply {
  created: string;
  state: { first_seq: number; last_seq: number };
  cluster?: { leader?: string; replicas?: { name: string }[] };
  error?: { err_code: number; description: string };
}

const codec = StringCodec();

/**
 * What the stream says of itself, by its leader.
 * @throws GuildstreamError STREAM_FAILED, or the client's own error, when no leader answers.
 */
export async function streamInfo(nc: NatsConnection, stream: string = guildsStream): Promise<StreamInfo> {
  const subject = `$JS.API.STREAM.INFO.${stream}`;
  const msg = await nc.request(subject, "", { timeout: limits.natsRequestTimeoutMs });
  const reply = JSON.parse(codec.decode(msg.data)) as InfoReply;
  if (reply.error !== undefined) {
    throw new GuildstreamError("STREAM_FAILED", `stream ${stream}: ${reply.error.description}`);
  }
  const { leader, replicas = [] } = reply.cluster ?? {};
  // Whoever answers lists the others as replicas: a leader among them is not the one that speaks.
  if (!leader || replicas.some((replica) => replica.name === leader)) {
    throw new GuildstreamError("STREAM_FAILED", `stream ${stream} has no leader at the moment`, {
      hint: "more than half of its servers must run",
    });
  }
  const { first_seq: firstSeq, last_seq: lastSeq } = reply.state;
  return { created: reply.created, firstSeq, lastSeq, replicas: replicas.length + 1 };
}

export interface PatientOptions {
  nc: NatsConnection;
  /** Default: the guild log. */
  stream?: string;
  /** How far the caller knows the stream to have come. */
  known?: StreamPlace | undefined;
  isStopped: () => boolean;
  onTrouble: (fields: object, message: string) => void;
  /** For so long an answer that falls short of `known` must hold. */
  confirmMs?: number;
}

/**
 * The same, waiting for the leader as long as it takes. An answer that falls short of `known` is returned only when
 * nobody can be mistaken (a single server), or once it has held for `confirmMs`.
 * @throws GuildstreamError ABORTED once stopped.
 */
export async function streamInfoInTime(options: PatientOptions): Promise<StreamInfo> {
  const { known, confirmMs = limits.rewindConfirmMs, onTrouble } = options;
  let doubtedAt: number | undefined;
  for (;;) {
    const info = await leadersAnswer(options);
    if (known === undefined || info.replicas === 1) return info;
    if (info.created === known.created && info.lastSeq >= known.lastSeq) return info;
    if (doubtedAt === undefined) {
      doubtedAt = performance.now();
      onTrouble({ known, stream: info }, "the stream seems to have lost its end; making sure");
    } else if (performance.now() - doubtedAt >= confirmMs) return info;
    await new Promise((resolve) => setTimeout(resolve, limits.leaderAskMinMs));
  }
}

/** Asks again before the last question has timed out: one that met no leader stays without an answer. */
function leadersAnswer({
  nc,
  stream = guildsStream,
  isStopped,
  onTrouble,
}: PatientOptions): Promise<StreamInfo> {
  const beganAt = performance.now();
  const { leaderAskMinMs, leaderAskMaxMs } = limits;
  return new Promise((resolve, reject) => {
    let timer: NodeJS.Timeout;
    let failures = 0;
    const answered = (info: StreamInfo): void => {
      clearTimeout(timer);
      resolve(info);
    };
    const failed = (error: unknown): void => {
      failures += 1;
      if (failures > 1) return;
      onTrouble({ error: messageOf(error) }, `stream ${stream} does not answer, asking again`);
    };
    const ask = (): void => {
      if (isStopped()) {
        reject(new GuildstreamError("ABORTED", "stopped while the stream did not answer"));
        return;
      }
      streamInfo(nc, stream).then(answered, failed);
      const waitedMs = performance.now() - beganAt;
      timer = setTimeout(ask, Math.max(leaderAskMinMs, Math.min(leaderAskMaxMs, waitedMs / 20)));
    };
    ask();
  });
}

/** When the stream stored the message with this sequence, in Unix ns; undefined when it is no longer there. */
export async function storedTimeNs(nc: NatsConnection, seq: number): Promise<string | undefined> {
  const manager = await nc.jetstreamManager({ timeout: limits.natsRequestTimeoutMs, checkAPI: false });
  try {
    return nanoseconds((await manager.streams.getMessage(guildsStream, { seq })).timestamp);
  } catch (error) {
    if (/no message found/i.test(messageOf(error))) return undefined;
    throw error;
  }
}

/** Unix ns of an RFC 3339 time; the server leaves out trailing zeros of the fraction. */
function nanoseconds(time: string): string {
  const [, seconds, fraction = ""] = /^([^.Z]*)(?:\.(\d+))?Z$/.exec(time) ?? [];
  if (seconds === undefined) throw new GuildstreamError("STREAM_FAILED", `not a time: ${time.slice(0, 40)}`);
  return `${BigInt(Date.parse(`${seconds}Z`)) * 1_000_000n + BigInt(fraction.padEnd(9, "0"))}`;
}
