/**
 * Owns core NATS messages that carry JSON: requests and announcements, validated as they come in.
 * Garbage is ignored; who sends it is not ours to crash for.
 */
import { type NatsConnection, StringCodec } from "nats";
import type { z } from "zod";

const codec = StringCodec();

/** Calls back for every valid message; returns how to stop. */
export function subscribeJson<T>(
  nc: NatsConnection,
  subject: string,
  schema: z.ZodType<T>,
  onMessage: (value: T, subject: string) => void,
): () => void {
  const subscription = nc.subscribe(subject, {
    callback: (error, msg) => {
      if (error !== null) return;
      const value = parse(schema, codec.decode(msg.data));
      if (value !== undefined) onMessage(value, msg.subject);
    },
  });
  return () => subscription.unsubscribe();
}

/** Asks and validates the answer; undefined when the answer is not of the shape. Rejects on timeout or no responder. */
export async function requestJson<T>(
  nc: NatsConnection,
  subject: string,
  body: unknown,
  schema: z.ZodType<T>,
  timeoutMs: number,
): Promise<T | undefined> {
  const msg = await nc.request(subject, codec.encode(JSON.stringify(body)), { timeout: timeoutMs });
  return parse(schema, codec.decode(msg.data));
}

function parse<T>(schema: z.ZodType<T>, text: string): T | undefined {
  try {
    const parsed = schema.safeParse(JSON.parse(text));
    return parsed.success ? parsed.data : undefined;
  } catch {
    return undefined;
  }
}
