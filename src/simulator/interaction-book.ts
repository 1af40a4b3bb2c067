/**
 * The book of interactions: which were sent, and how and when each was answered.
 *
 * Invariants: sent = answeredInTime + late + never + pending + voided; an interaction is answered at most
 * once. "never" means its time ran out without an answer; it becomes "late" when one comes after all
 * (and is refused). Interactions and Responses, "Receiving and Responding". Used by traffic and
 * control (open), the interaction routes (answer, find) and the session registry (void).
 */
import type { APIUser } from "discord-api-types/v10";
import { Histogram } from "./histogram.js";
import { LIMITS } from "./limits.js";

export interface InteractionRecord {
  readonly id: string;
  readonly token: string;
  /** InteractionType: 2 command, 3 component, 4 autocomplete, 5 modal. */
  readonly type: number;
  readonly guild: number;
  readonly channelId: string;
  readonly user: APIUser;
  readonly name: string;
  /** The message a component sits on. */
  readonly messageId: string | null;
}

/** What became of an interaction. */
export interface InteractionState extends InteractionRecord {
  state: "pending" | "answered" | "late" | "never";
  /** Time from dispatch to the accepted answer. */
  latencyMs: number | null;
  /** The accepted callback: its type and data. */
  answer: { type: number; data?: unknown } | null;
  /** The message of the answer, once there is one. */
  originalMessageId: string | null;
  /** Deferred with type 5 and not filled yet. */
  deferred: boolean;
  doubleAnswerAttempts: number;
}

interface Entry extends InteractionState {
  readonly sentAtMs: number;
}

export type AnswerVerdict = "accepted" | "unknown" | "late" | "double";

export class InteractionBook {
  #sent = 0;
  #answeredInTime = 0;
  #late = 0;
  #never = 0;
  #voided = 0;
  #doubleAnswerAttempts = 0;
  readonly #latency = new Histogram();
  readonly #byId = new Map<string, Entry>();
  readonly #byToken = new Map<string, Entry>();
  /** Unanswered and in time, oldest first. */
  readonly #pending = new Map<string, Entry>();
  readonly #sweepTimer: NodeJS.Timeout;

  constructor(private readonly times: { interactionAnswerMs: number; interactionTokenMs: number }) {
    this.#sweepTimer = setInterval(() => this.#sweep(), LIMITS.interactionSweepMs);
    this.#sweepTimer.unref();
  }

  /** Enters an interaction that has just been dispatched. */
  open(record: InteractionRecord): void {
    const entry: Entry = {
      ...record,
      sentAtMs: performance.now(),
      state: "pending",
      latencyMs: null,
      answer: null,
      originalMessageId: null,
      deferred: false,
      doubleAnswerAttempts: 0,
    };
    this.#sent++;
    this.#byId.set(entry.id, entry);
    this.#byToken.set(entry.token, entry);
    this.#pending.set(entry.id, entry);
    if (this.#byId.size > LIMITS.interactionsKept) this.#forgetOldest();
  }

  /** Judges a callback; on "accepted" the answer is entered. */
  answer(id: string, token: string, answer: { type: number; data?: unknown }): AnswerVerdict {
    const entry = this.#byId.get(id);
    if (entry === undefined || entry.token !== token) return "unknown";
    if (entry.state === "answered") {
      entry.doubleAnswerAttempts++;
      this.#doubleAnswerAttempts++;
      return "double";
    }
    const latencyMs = performance.now() - entry.sentAtMs;
    if (latencyMs > this.times.interactionAnswerMs) {
      this.#expire(entry);
      if (entry.state === "never") {
        entry.state = "late";
        this.#never--;
        this.#late++;
      }
      return "late";
    }
    this.#pending.delete(id);
    entry.state = "answered";
    entry.latencyMs = latencyMs;
    entry.answer = answer;
    entry.deferred = answer.type === 5;
    this.#answeredInTime++;
    this.#latency.add(latencyMs);
    return "accepted";
  }

  find(id: string): InteractionState | undefined {
    return this.#byId.get(id);
  }

  /** The interaction a webhook token belongs to, and whether the token still works (15 minutes). */
  findByToken(token: string): { interaction: InteractionState; expired: boolean } | undefined {
    const entry = this.#byToken.get(token);
    if (entry === undefined) return undefined;
    return {
      interaction: entry,
      expired: performance.now() - entry.sentAtMs > this.times.interactionTokenMs,
    };
  }

  /** Takes out an interaction that no client can have seen. */
  void(id: string): void {
    const entry = this.#byId.get(id);
    if (entry === undefined) return;
    if (entry.state === "never") this.#never--;
    else if (!this.#pending.delete(id)) return;
    this.#voided++;
    this.#forget(entry);
  }

  /** Totals and the times from dispatch to accepted answer. */
  report() {
    this.#sweep();
    return {
      sent: this.#sent,
      answeredInTime: this.#answeredInTime,
      late: this.#late,
      never: this.#never,
      pending: this.#pending.size,
      voided: this.#voided,
      doubleAnswerAttempts: this.#doubleAnswerAttempts,
      p50Ms: this.#latency.quantileMs(0.5),
      p99Ms: this.#latency.quantileMs(0.99),
      maxMs: this.#latency.maxMs,
    };
  }

  stop(): void {
    clearInterval(this.#sweepTimer);
  }

  #sweep(): void {
    const dueMs = performance.now() - this.times.interactionAnswerMs;
    for (const entry of this.#pending.values()) {
      if (entry.sentAtMs >= dueMs) return;
      this.#expire(entry);
    }
  }

  #expire(entry: Entry): void {
    if (!this.#pending.delete(entry.id)) return;
    entry.state = "never";
    this.#never++;
  }

  #forgetOldest(): void {
    for (const entry of this.#byId.values()) {
      if (entry.state === "pending") this.#expire(entry);
      this.#forget(entry);
      return;
    }
  }

  #forget(entry: Entry): void {
    this.#byId.delete(entry.id);
    this.#byToken.delete(entry.token);
  }
}
