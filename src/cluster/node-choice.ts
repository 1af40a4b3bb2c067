/**
 * Owns whom a worker asks for a guild: how fast each database node has answered this worker, which ones have just
 * failed, and from that the order to ask in. Pure: the caller gives the time and the randomness.
 *
 * Invariants:
 * - The more likely first, the quicker: a weighted random order, by 1 / answer time, less for a node that is behind
 *   the others or still owes answers. A slow one is asked now and then, so that it is noticed when it has recovered;
 *   what is known of a node that nobody asks fades as well.
 * - A node that failed is not in `first` for a bounded time, which doubles while it goes on failing; then one request
 *   tries it while the others still keep away.
 *
 * Used by DbnodeWatch (who is there) and the worker's loader (asks, and reports what came of it).
 */
import { limits } from "../core/limits.js";

export interface NodeCandidate {
  id: string;
  /** Messages of the log that it has not received although another node has. */
  lag: number;
}

export interface NodeOrder {
  /** To be asked one after the other. */
  first: string[];
  /** These have just failed: only when nothing else is left. */
  last: string[];
}

/** What this worker has seen of one node. */
interface Seen {
  answerMs: number;
  answeredAt: number;
  /** Requests without an answer yet. */
  open: number;
  /** In a row. */
  failures: number;
  avoidUntil: number;
  /** It has failed, and one request tries it again. */
  trying: boolean;
}

export class NodeChoice {
  readonly #random: () => number;
  readonly #seen = new Map<string, Seen>();

  constructor(random: () => number = Math.random) {
    this.#random = random;
  }

  order(nodes: readonly NodeCandidate[], now: number): NodeOrder {
    const first: { id: string; key: number }[] = [];
    const last: { id: string; until: number }[] = [];
    for (const { id, lag } of nodes) {
      const seen = this.#seen.get(id);
      if (seen !== undefined && now < seen.avoidUntil) last.push({ id, until: seen.avoidUntil });
      // Ascending by these keys is a draw without replacement, each by its weight (Efraimidis and Spirakis, 2006).
      else first.push({ id, key: -Math.log(1 - this.#random()) / weight(seen, lag, now) });
    }
    return {
      first: first.sort((a, b) => a.key - b.key).map((node) => node.id),
      last: last.sort((a, b) => a.until - b.until).map((node) => node.id),
    };
  }

  /** A request goes out. Its answer or its failure is to be reported. */
  asked(id: string, now: number): void {
    const seen = this.#of(id, now);
    seen.open += 1;
    if (seen.failures === 0) return;
    seen.trying = true;
    seen.avoidUntil = Math.max(seen.avoidUntil, now + limits.dbGetTimeoutMs);
  }

  answered(id: string, tookMs: number, now: number): void {
    const seen = this.#of(id, now);
    const before = faded(seen, now);
    seen.answerMs = before + (tookMs - before) * limits.nodeAnswerSmoothing;
    seen.answeredAt = now;
    seen.open = Math.max(0, seen.open - 1);
    seen.failures = 0;
    seen.avoidUntil = 0;
    seen.trying = false;
  }

  /** No answer in time, or nobody there to give one. */
  failed(id: string, now: number): void {
    const seen = this.#of(id, now);
    seen.open = Math.max(0, seen.open - 1);
    // Requests that were on their way together fail one after the other: that is one failure.
    if (now < seen.avoidUntil && !seen.trying) return;
    const avoidMs = Math.min(limits.nodeAvoidMinMs * 2 ** Math.min(seen.failures, 10), limits.nodeAvoidMaxMs);
    seen.failures += 1;
    seen.avoidUntil = now + avoidMs;
    seen.trying = false;
  }

  #of(id: string, now: number): Seen {
    let seen = this.#seen.get(id);
    if (seen === undefined) {
      seen = { answerMs: 0, answeredAt: now, open: 0, failures: 0, avoidUntil: 0, trying: false };
      this.#seen.set(id, seen);
    }
    return seen;
  }
}

/** The smoothed answer time, half forgotten after each `nodeAnswerHalfLifeMs` without an answer. */
function faded(seen: Seen, now: number): number {
  return seen.answerMs * 0.5 ** ((now - seen.answeredAt) / limits.nodeAnswerHalfLifeMs);
}

function weight(seen: Seen | undefined, lag: number, now: number): number {
  const answerMs = seen === undefined ? 0 : faded(seen, now);
  const open = seen?.open ?? 0;
  const costMs = Math.max(answerMs, limits.nodeAnswerFloorMs);
  return 1 / (costMs * (1 + open) * (1 + lag / limits.nodeLagMessages));
}
