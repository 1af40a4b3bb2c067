/**
 * All sessions: opening, finding, ending them, and handing each world event to those it concerns.
 *
 * Invariants: an ended session is in no list and no event is handed to it; an event whose last holder
 * ended is reported to the ledger exactly once (voided, unconfirmed, or silently when received).
 * Used by the gateway (open, resume, end) and the simulation (publish).
 */
import { randomBytes } from "node:crypto";
import type { Ledger } from "./ledger.js";
import { Session, type SessionIdentity } from "./session.js";
import { Receipt, type WorldEvent } from "./world-event.js";

/** Why a session was lost, as counted in the statistics. */
export type SessionEnd = "closed" | "expired" | "invalidated" | "windowExceeded";

export class Sessions {
  readonly ends: Record<SessionEnd, number> = { closed: 0, expired: 0, invalidated: 0, windowExceeded: 0 };
  readonly #byId = new Map<string, Session>();
  /** Sessions by shard count, then shard id: the audience of a guild is one list per count. */
  readonly #byCount = new Map<number, Session[][]>();

  constructor(
    private readonly ledger: Ledger,
    private readonly ttlMs: number,
    private readonly onVoided: (event: WorldEvent) => void,
  ) {}

  open(identity: Omit<SessionIdentity, "id">): Session {
    const session = new Session({ ...identity, id: randomBytes(16).toString("hex") }, (event) =>
      this.#released(event),
    );
    this.#byId.set(session.identity.id, session);
    const [shard, count] = identity.shard;
    let shards = this.#byCount.get(count);
    if (shards === undefined) {
      shards = Array.from({ length: count }, () => []);
      this.#byCount.set(count, shards);
    }
    shards[shard]!.push(session);
    return session;
  }

  find(id: string): Session | undefined {
    return this.#byId.get(id);
  }

  all(): Session[] {
    return [...this.#byId.values()];
  }

  /** The sessions that get a dispatch of the guild made at `sinceEpochMs` (0: direct messages, shard 0). */
  audience(sinceEpochMs: number, requiredIntents: number): Session[] {
    const out: Session[] = [];
    for (const [count, shards] of this.#byCount) {
      for (const session of shards[sinceEpochMs % count]!) {
        if (requiredIntents === 0 || (session.identity.intents & requiredIntents) !== 0) out.push(session);
      }
    }
    return out;
  }

  /** Keeps the session resumable for its time to live, now that its connection is gone. */
  detach(session: Session): void {
    session.connection = null;
    if (session.ended) return;
    session.ttlTimer = setTimeout(() => this.end(session, "expired"), this.ttlMs);
    session.ttlTimer.unref();
  }

  end(session: Session, why: SessionEnd): void {
    if (session.ended) return;
    this.ends[why]++;
    this.#byId.delete(session.identity.id);
    const [shard, count] = session.identity.shard;
    const shards = this.#byCount.get(count)!;
    shards[shard] = shards[shard]!.filter((other) => other !== session);
    if (shards.every((list) => list.length === 0)) this.#byCount.delete(count);
    session.end();
  }

  #released(event: WorldEvent): void {
    if (event.receipt === Receipt.none) {
      this.ledger.void(event);
      this.onVoided(event);
    } else if (event.receipt === Receipt.written) {
      this.ledger.unconfirm(event);
    }
  }
}
