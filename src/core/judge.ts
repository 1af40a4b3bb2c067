/**
 * Owns the verdict on an append whose outcome is unknown (design: "the guild log", 3): pure, from what the log's
 * leader says is the subject's last message.
 *
 * What another writer may believe meanwhile does not matter here: the log's last message is the only witness.
 * Used by the guild log after a wrong-last-sequence, a timeout, a reconnect or a duplicate answer.
 */
import type { MessageKind } from "./event.js";

/** The append in question. */
export interface AppendClaim {
  messageId: string;
  rev: number;
  epoch: number;
  by: string;
  expectedSeq: number;
}

/** The subject's last message as the stream's leader has it. */
export interface LastMessage {
  seq: number;
  messageId: string | undefined;
  kind: MessageKind;
  rev: number;
  epoch: number;
  by: string;
}

export type Verdict =
  /** It is in the log, at this sequence. */
  | { verdict: "stored"; seq: number }
  /** It is not in the log and may be sent again, expecting this sequence. */
  | { verdict: "retry"; expectedSeq: number }
  /** Another writer has claimed the guild: drop it, forward what waits. */
  | { verdict: "fenced"; by: string; epoch: number }
  /** A zombie's last valid write came first: load again, run what waits again on top. */
  | { verdict: "overtaken"; by: string; seq: number }
  /** The stream no longer has what was acknowledged: it rewound. Put the state back by a snapshot. */
  | { verdict: "lost"; lastSeq: number };

/** Decides what became of the append; total, and the same for every server version. */
export function judgeAppend(claim: AppendClaim, last: LastMessage | undefined): Verdict {
  if (last === undefined) {
    return claim.expectedSeq === 0 ? { verdict: "retry", expectedSeq: 0 } : { verdict: "lost", lastSeq: 0 };
  }
  if (last.messageId === claim.messageId) return { verdict: "stored", seq: last.seq };
  if (last.epoch > claim.epoch) return { verdict: "fenced", by: last.by, epoch: last.epoch };
  if (last.seq < claim.expectedSeq) return { verdict: "lost", lastSeq: last.seq };
  if (last.seq === claim.expectedSeq) return { verdict: "retry", expectedSeq: last.seq };
  // Something new stands on top of the revision we built on: a snapshot of it by a database node, or garbage by hand.
  if (last.rev === claim.rev - 1) return { verdict: "retry", expectedSeq: last.seq };
  // A database node compacted ours, once it was stored.
  if (last.kind === "snapshot" && last.rev === claim.rev && last.epoch === claim.epoch) {
    return { verdict: "stored", seq: last.seq };
  }
  if (last.epoch === claim.epoch && last.by !== claim.by) {
    return { verdict: "fenced", by: last.by, epoch: last.epoch };
  }
  return { verdict: "overtaken", by: last.by, seq: last.seq };
}
