/**
 * Owns questions of one worker's life to another over core NATS: asked and answered, or told without an answer.
 * Garbage is ignored; a question that the answering side fails on is answered with its reason.
 */
import type { NatsConnection, Subscription } from "nats";
import { StringCodec } from "nats";
import { GuildstreamError, messageOf } from "../core/errors.js";
import { type Answer, type Ask, answer, ask } from "../core/handoff.js";
import { askSubject } from "../core/subjects.js";

const codec = StringCodec();

/** @throws GuildstreamError NOBODY_ANSWERS */
export async function askWorker(
  nc: NatsConnection,
  to: string,
  question: Ask,
  timeoutMs: number,
): Promise<Answer> {
  try {
    const msg = await nc.request(askSubject(to), codec.encode(JSON.stringify(question)), {
      timeout: timeoutMs,
    });
    return answer.parse(JSON.parse(codec.decode(msg.data)));
  } catch (cause) {
    throw new GuildstreamError(
      "NOBODY_ANSWERS",
      `${to} does not answer "${question.ask}": ${messageOf(cause)}`,
      { cause },
    );
  }
}

/** Tells without waiting; what is lost is noticed by its absence. */
export function tellWorker(nc: NatsConnection, to: string, message: Ask): void {
  if (!nc.isClosed()) nc.publish(askSubject(to), codec.encode(JSON.stringify(message)));
}

/** Answers what comes for this member or life; returns how to stop. */
export function answerAsks(
  nc: NatsConnection,
  name: string,
  handle: (question: Ask) => Answer | Promise<Answer>,
): () => void {
  const subscription: Subscription = nc.subscribe(askSubject(name), {
    callback: (error, msg) => {
      if (error !== null) return;
      const question = parse(codec.decode(msg.data));
      if (question === undefined) return;
      void (async () => {
        let reply: Answer;
        try {
          reply = await handle(question);
        } catch (cause) {
          reply = { ok: false, reason: messageOf(cause) };
        }
        if (msg.reply && !nc.isClosed()) msg.respond(codec.encode(JSON.stringify(reply)));
      })();
    },
  });
  return () => subscription.unsubscribe();
}

function parse(text: string): Ask | undefined {
  try {
    return ask.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}
