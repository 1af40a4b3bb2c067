/**
 * What the simulator says of itself: the ledger in full and statistics cheap enough to poll.
 *
 * Used by control.ts and the Simulator object.
 */
import type { Gateway } from "./gateway.js";
import type { GuildLedger, LedgerTotals } from "./ledger.js";
import type { Simulation } from "./simulation.js";
import type { Traffic } from "./traffic.js";

const METER_INTERVAL_MS = 1_000;

/** Interactions: sent = answeredInTime + late + never + pending + voided. Times in milliseconds. */
export type InteractionReport = ReturnType<Simulation["interactions"]["report"]>;

/** The oracle's book, as GET /control/ledger returns it. */
export interface LedgerReport {
  readonly seed: number;
  /** By guild id; direct messages under "dm". Guilds in which nothing happened are absent. */
  readonly guilds: Record<string, GuildLedger>;
  readonly totals: LedgerTotals;
  readonly interactions: InteractionReport;
  readonly botMessages: { readonly created: number; readonly nonceDuplicates: number };
}

/** Statistics, as GET /control/stats returns them. */
export type StatsReport = ReturnType<Reports["stats"]>;

export class Reports {
  readonly #startedAtMs = performance.now();
  readonly #timer: NodeJS.Timeout;
  #meter = { atMs: performance.now(), total: 0, perSecond: 0 };

  constructor(
    private readonly simulation: Simulation,
    private readonly traffic: Traffic,
    private readonly gateway: Gateway,
  ) {
    this.#timer = setInterval(() => this.#measure(), METER_INTERVAL_MS);
    this.#timer.unref();
  }

  ledger(): LedgerReport {
    const { ledger, interactions, counters, options } = this.simulation;
    return {
      seed: options.seed,
      guilds: ledger.guilds(),
      totals: ledger.totals,
      interactions: interactions.report(),
      botMessages: { created: counters.botMessages, nonceDuplicates: counters.nonceDuplicates },
    };
  }

  stats() {
    const { ledger, interactions, counters, options, world, sessions, identifyBudget } = this.simulation;
    return {
      seed: options.seed,
      uptimeMs: Math.round(performance.now() - this.#startedAtMs),
      guilds: world.size,
      running: this.traffic.running,
      ratePerSecond: this.traffic.ratePerSecond,
      dispatches: ledger.dispatches,
      dispatchesPerSecond: this.#meter.perSecond,
      voided: ledger.voided,
      connections: this.gateway.connections().length,
      identifiesRemaining: identifyBudget.report().remaining,
      identifyShortestGapMs: identifyBudget.shortestGapMs,
      sessionsLost: { ...sessions.ends },
      sessions: sessions.all().map((session) => ({
        shard: session.identity.shard,
        sessionId: session.identity.id.slice(0, 8),
        s: session.s,
        connected: session.connection !== null,
        unsent: session.connection?.unsent ?? 0,
      })),
      answers: interactions.report(),
      ...counters,
    };
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #measure(): void {
    const atMs = performance.now();
    const total = this.simulation.ledger.dispatches;
    const perSecond = Math.round(((total - this.#meter.total) * 1_000) / (atMs - this.#meter.atMs));
    this.#meter = { atMs, total, perSecond };
  }
}
