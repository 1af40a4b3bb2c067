/**
 * Owns the audit of a guild log after a story: what must hold on every guild's subject, whatever happened (design:
 * invariants). Reads the whole stream.
 */
import { StringCodec } from "nats";
import { decodeMessage } from "../../src/core/event.js";
import { kindHeader } from "../../src/core/subjects.js";
import type { NatsConnection } from "../../src/nats/connect.js";

export interface Audit {
  messages: number;
  guilds: number;
  /** Claims: how often a guild got another writer. */
  claims: number;
  /** What must not be: one line each. */
  wrong: string[];
}

/** Revisions are gapless and epochs never fall along a subject (I2). */
export async function auditLog(nc: NatsConnection): Promise<Audit> {
  const codec = StringCodec();
  const audit: Audit = { messages: 0, guilds: 0, claims: 0, wrong: [] };
  const last = new Map<string, { rev: number; epoch: number; by: string }>();
  const consumer = await nc.jetstream().consumers.get("GUILDS", { filterSubjects: "guild.>" });
  let pending = (await consumer.info()).num_pending;
  if (pending === 0) return audit;
  const messages = await consumer.consume();
  for await (const msg of messages) {
    const { rev, epoch, by, kind } = decodeMessage(msg.headers?.get(kindHeader), codec.decode(msg.data));
    const before = last.get(msg.subject);
    audit.messages += 1;
    if (before !== undefined && epoch < before.epoch) {
      audit.wrong.push(`${msg.subject} seq ${msg.seq}: epoch ${epoch} after ${before.epoch}`);
    }
    if (before !== undefined && kind === "event" && rev !== before.rev + 1) {
      audit.wrong.push(`${msg.subject} seq ${msg.seq}: revision ${rev} after ${before.rev}`);
    }
    if (before !== undefined && by !== before.by && epoch === before.epoch) {
      audit.wrong.push(`${msg.subject} seq ${msg.seq}: two writers in epoch ${epoch}`);
    }
    if (before !== undefined && epoch > before.epoch) audit.claims += 1;
    last.set(msg.subject, { rev, epoch, by });
    pending -= 1;
    if (pending === 0) break;
  }
  audit.guilds = last.size;
  return audit;
}
