/**
 * The ledger: what the bot must have seen, per guild. The oracle of every test on the simulator.
 *
 * Rules:
 * - A world event counts once under its guild ("dm" without one) when it enters the stream of at
 *   least one session, live or resumable, whatever the number of sessions.
 * - Start-up GUILD_CREATEs, READY, RESUMED and answers to a client's requests are no world events.
 * - An event is *voided* (taken out again) when every session that held it was lost before it was
 *   written to a socket: no client can have seen it.
 * - It is *unconfirmed* (still counted) when every session that held it was lost after it was
 *   written but before a client named its sequence in a heartbeat or RESUME: it may have been on its way. What a client
 *   saw therefore lies between counts - unconfirmed and counts; without lost sessions it equals counts.
 */
import type { WorldEvent } from "./world-event.js";

const ID_SUM_MODULUS = 1_000_000_000;

/** What is expected of one guild. */
export interface GuildLedger {
  /** Expected dispatches by their type `t`. */
  counts: Record<string, number>;
  /** Sum over MESSAGE_CREATE and INTERACTION_CREATE of the id's last six digits, modulo 1e9. */
  idSum: number;
  /** Counted dispatches that may not have arrived, see the rules above. */
  unconfirmed: number;
}

export interface LedgerTotals {
  /** World events expected, all guilds together. */
  dispatches: number;
  counts: Record<string, number>;
  voided: number;
  unconfirmed: number;
}

export class Ledger {
  readonly #guilds = new Map<string, GuildLedger>();
  readonly #totals: LedgerTotals = { dispatches: 0, counts: {}, voided: 0, unconfirmed: 0 };

  add(event: WorldEvent): void {
    this.#count(event, 1);
  }

  /** Takes back an event that no client can have seen. */
  void(event: WorldEvent): void {
    this.#count(event, -1);
    this.#totals.voided++;
  }

  /** Marks an event that may or may not have been seen. */
  unconfirm(event: WorldEvent): void {
    this.#guild(event.key).unconfirmed++;
    this.#totals.unconfirmed++;
  }

  get totals(): LedgerTotals {
    return { ...this.#totals, counts: { ...this.#totals.counts } };
  }

  get dispatches(): number {
    return this.#totals.dispatches;
  }

  get voided(): number {
    return this.#totals.voided;
  }

  /** A copy of every guild's entry; guilds without traffic are absent. */
  guilds(): Record<string, GuildLedger> {
    const out: Record<string, GuildLedger> = {};
    for (const [id, entry] of this.#guilds) out[id] = { ...entry, counts: { ...entry.counts } };
    return out;
  }

  #count(event: WorldEvent, by: 1 | -1): void {
    const guild = this.#guild(event.key);
    guild.counts[event.t] = (guild.counts[event.t] ?? 0) + by;
    this.#totals.counts[event.t] = (this.#totals.counts[event.t] ?? 0) + by;
    this.#totals.dispatches += by;
    guild.idSum = (guild.idSum + by * event.idTail + ID_SUM_MODULUS) % ID_SUM_MODULUS;
  }

  #guild(key: string): GuildLedger {
    let entry = this.#guilds.get(key);
    if (entry === undefined) {
      entry = { counts: {}, idSum: 0, unconfirmed: 0 };
      this.#guilds.set(key, entry);
    }
    return entry;
  }
}
