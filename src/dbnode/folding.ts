/**
 * Owns what a message of the log does to the node's documents: fold, ignore, or quarantine.
 *
 * Invariants:
 * - Nothing that anybody publishes stops the node: what cannot be applied is quarantined with its sequence and reason.
 * - A guild is broken only by what really breaks its history, a gap or a failing patch. From there on its events are
 *   quarantined and it is not served, until a snapshot (or a tombstone) repairs it. Garbage between two revisions that
 *   follow each other breaks nothing.
 * - The same messages give the same documents on every node: no clock, no order but the stream's.
 *
 * Used by the node, on each batch of deliveries. If the process dies, the documents in memory are made again from the
 * stream, after the store's watermark.
 */
import { fold } from "../core/document.js";
import { messageOf } from "../core/errors.js";
import { decodeMessage, type LogMessage } from "../core/event.js";
import { limits } from "../core/limits.js";
import { guildOfSubject } from "../core/subjects.js";
import type { QuarantineEntry } from "../disk/store.js";
import type { Delivery } from "../nats/consumer.js";
import type { Documents, Entry } from "./documents.js";

export class Folding {
  readonly #documents: Documents;
  readonly #onQuarantine: (entry: QuarantineEntry) => void;
  #seq: number;
  #timeNs: string;
  #unsaved = 0;
  #quarantine: QuarantineEntry[] = [];

  constructor(
    documents: Documents,
    start: { seq: number; timeNs: string },
    onQuarantine: (entry: QuarantineEntry) => void,
  ) {
    this.#documents = documents;
    this.#seq = start.seq;
    this.#timeNs = start.timeNs;
    this.#onQuarantine = onQuarantine;
  }

  /** Every message up to here is in the documents or in quarantine, in memory at least. */
  get seq(): number {
    return this.#seq;
  }

  get timeNs(): string {
    return this.#timeNs;
  }

  /** Messages since the last `take`. */
  get unsaved(): number {
    return this.#unsaved;
  }

  /** Quarantined since the last `take`. */
  get quarantined(): number {
    return this.#quarantine.length;
  }

  /** Folds messages in the stream's order; those at or below `seq` are old and ignored. */
  foldAll(deliveries: readonly Delivery[]): void {
    for (const delivery of deliveries) {
      if (delivery.seq <= this.#seq) continue;
      this.#foldOne(delivery);
      this.#seq = delivery.seq;
      this.#timeNs = delivery.timeNs;
      this.#unsaved += 1;
    }
  }

  /** What the next batch on disk covers: everything folded since the last call. */
  take(): { seq: number; timeNs: string; entries: Entry[]; quarantine: QuarantineEntry[] } {
    const quarantine = this.#quarantine;
    this.#quarantine = [];
    this.#unsaved = 0;
    return { seq: this.#seq, timeNs: this.#timeNs, entries: this.#documents.takeDirty(), quarantine };
  }

  /** Starts over before the first message. */
  reset(): void {
    this.#documents.clear();
    this.#quarantine = [];
    this.#unsaved = 0;
    this.#seq = 0;
    this.#timeNs = "";
  }

  #foldOne(delivery: Delivery): void {
    const { subject, seq } = delivery;
    const known = this.#documents.peek(subject.slice(9));
    const guildId = known?.subject === subject ? known.guildId : guildOfSubject(subject);
    if (guildId === undefined) {
      this.#refuse(delivery, undefined, "not a guild's subject");
      return;
    }
    let message: LogMessage;
    try {
      message = decodeMessage(delivery.kind, delivery.text);
    } catch (error) {
      this.#refuse(delivery, guildId, messageOf(error));
      return;
    }
    const entry = this.#documents.open(guildId, subject);
    if (entry.broken !== undefined && message.kind === "event") {
      this.#refuse(delivery, guildId, `the guild is broken: ${entry.broken}`);
      return;
    }
    const { rev, epoch } = entry.document;
    const result = fold(entry.document, message, seq);
    if (result.outcome === "old") return;
    if (result.outcome === "applied") {
      entry.document = result.document;
      entry.broken = undefined;
      this.#documents.changed(entry, delivery.text.length);
      return;
    }
    this.#refuse(delivery, guildId, result.reason);
    // A revision that comes again, or a lower epoch, leaves the history whole: the writer's own next event follows on.
    if (message.kind !== "event" || message.rev <= rev || message.epoch < epoch) return;
    entry.broken = result.reason;
    this.#documents.changed(entry, 0);
  }

  #refuse(delivery: Delivery, guildId: string | undefined, why: string): void {
    const reason = why.slice(0, limits.quarantineReasonMaxLength);
    const at = Number(delivery.timeNs.slice(0, -6));
    const entry = { seq: delivery.seq, subject: delivery.subject, guildId, reason, at };
    this.#quarantine.push(entry);
    this.#onQuarantine(entry);
  }
}
