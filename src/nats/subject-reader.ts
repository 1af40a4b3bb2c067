/**
 * Owns reading a long history of one guild from the log, many messages a request.
 *
 * An ephemeral pull consumer in the server's memory, filtered to the subject: made in one request, gone by itself
 * soon after the last pull (a worker may not delete consumers of the guild log, see streams/nats-server.conf). Works
 * alike on every server we run with; direct get in batches needs 2.11.
 *
 * Invariants: messages come in stream order, none left out, or the reading ends with STREAM_FAILED and whoever reads
 * starts over. If the process dies, the server forgets the consumer. Used by the guild log.
 */
import { createInbox, type Msg, type NatsConnection, nuid } from "nats";
import { GuildstreamError } from "../core/errors.js";
import { limits } from "../core/limits.js";
import { guildsStream } from "../core/subjects.js";
import { parseAckSubject } from "./ack-subject.js";

/** A message as the server delivered it. */
export interface ReadMessage {
  seq: number;
  msg: Msg;
}

/** The messages of a subject, from one sequence to another, both included. */
export async function* readSubject(
  nc: NatsConnection,
  subject: string,
  fromSeq: number,
  endSeq: number,
): AsyncGenerator<ReadMessage> {
  const name = `reader-${nuid.next()}`;
  await createReader(nc, name, subject, fromSeq);
  let delivered = 0;
  let empty = 0;
  for (;;) {
    const batch = await pull(nc, name, endSeq);
    for (const { seq, place, msg } of batch.messages) {
      if (place !== delivered + 1) throw failed(subject, `delivery ${delivered + 1} did not come`);
      delivered = place;
      if (seq <= endSeq) yield { seq, msg };
    }
    if (batch.isLast) return;
    empty = batch.messages.length === 0 ? empty + 1 : 0;
    if (empty === 0) continue;
    // In a cluster the consumer may be on a server that ours has not heard of it from yet.
    if (empty > limits.readerEmptyMax) throw failed(subject, batch.trouble || "no consumer answers");
    await new Promise((resolve) => setTimeout(resolve, limits.judgeRetryMinMs));
  }
}

async function createReader(
  nc: NatsConnection,
  name: string,
  subject: string,
  fromSeq: number,
): Promise<void> {
  const config = {
    name,
    filter_subject: subject,
    deliver_policy: "by_start_sequence",
    opt_start_seq: fromSeq,
    ack_policy: "none",
    mem_storage: true,
    num_replicas: 1,
    inactive_threshold: limits.readerIdleMs * 1_000_000,
  };
  const reply = await nc.request(
    `$JS.API.CONSUMER.CREATE.${guildsStream}.${name}.${subject}`,
    JSON.stringify({ stream_name: guildsStream, config }),
    { timeout: limits.natsRequestTimeoutMs },
  );
  const { error } = reply.json<{ error?: { description: string } }>();
  if (error !== undefined) throw failed(subject, error.description);
}

interface Batch {
  messages: { seq: number; place: number; msg: Msg }[];
  /** Nothing of what was asked for comes after these. */
  isLast: boolean;
  trouble: string;
}

/** One pull: what came until it was full, the end was reached, or the server ended it. */
function pull(nc: NatsConnection, name: string, endSeq: number): Promise<Batch> {
  const batch: Batch = { messages: [], isLast: false, trouble: "no answer" };
  return new Promise((resolve) => {
    const inbox = createInbox();
    const finish = (): void => {
      clearTimeout(timer);
      subscription.unsubscribe();
      resolve(batch);
    };
    const timer = setTimeout(finish, limits.natsRequestTimeoutMs);
    const subscription = nc.subscribe(inbox, {
      callback: (error, msg) => {
        const isDelivery = error === null && msg.reply?.startsWith("$JS.ACK.") === true;
        const place = isDelivery ? parseAckSubject(msg.reply!) : undefined;
        if (place === undefined) {
          batch.trouble = error?.message ?? msg.headers?.description ?? "no consumer";
          finish();
          return;
        }
        batch.messages.push({ seq: place.seq, place: place.delivered, msg });
        batch.isLast = place.seq >= endSeq || place.pending === 0;
        if (batch.isLast || batch.messages.length === limits.readerBatchMessages) finish();
      },
    });
    const request = {
      batch: limits.readerBatchMessages,
      max_bytes: limits.readerBatchBytes,
      expires: limits.natsRequestTimeoutMs * 1_000_000,
    };
    nc.publish(`$JS.API.CONSUMER.MSG.NEXT.${guildsStream}.${name}`, JSON.stringify(request), {
      reply: inbox,
    });
  });
}

function failed(subject: string, reason: string): GuildstreamError {
  return new GuildstreamError("STREAM_FAILED", `${subject} could not be read to its end: ${reason}`);
}
