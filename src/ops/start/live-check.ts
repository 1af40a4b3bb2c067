/**
 * Owns what can be said of lost and double while the traffic runs: looks at some guilds every few seconds, others each
 * time, and compares them with the simulator's ledger of a moment before and a moment after.
 *
 * Invariants: more than the later ledger has is handled twice, for certain. Less than the earlier one has is lost only
 * if it is still missing `limits.ops.lostAfterMs` later: until then it may be on its way. The whole check comes at the end.
 */
import { limits } from "../../core/limits.js";
import type { NatsConnection } from "../../nats/connect.js";
import { readCounted } from "./guild-states.js";
import { type Counted, type Expected, judge, notCompared, nothingCounted } from "./oracle.js";
import type { SimulatorClient } from "./simulator-client.js";

type Ledger = Record<string, Expected>;

interface Missing {
  expected: Expected;
  since: number;
  lost: number;
}

export class LiveCheck {
  looks = 0;
  readonly #nc: NatsConnection;
  readonly #nodeId: string;
  readonly #simulator: SimulatorClient;
  readonly #baseline: ReadonlyMap<string, Counted>;
  readonly #missing = new Map<string, Missing>();
  readonly #twice = new Map<string, number>();
  #before: Ledger | undefined;
  #next = 0;
  #timer: NodeJS.Timeout | undefined;
  #isLooking = false;

  constructor(
    nc: NatsConnection,
    nodeId: string,
    simulator: SimulatorClient,
    baseline: ReadonlyMap<string, Counted>,
  ) {
    this.#nc = nc;
    this.#nodeId = nodeId;
    this.#simulator = simulator;
    this.#baseline = baseline;
  }

  get lost(): number {
    return [...this.#missing.values()].reduce((sum, missing) => sum + missing.lost, 0);
  }

  get duplicated(): number {
    return [...this.#twice.values()].reduce((sum, count) => sum + count, 0);
  }

  start(): void {
    // A look that fails (its node is being started again) is left out.
    this.#timer = setInterval(() => void this.look().catch(() => {}), limits.ops.lookIntervalMs);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  async look(): Promise<void> {
    if (this.#isLooking) return;
    this.#isLooking = true;
    try {
      const before = this.#before;
      if (before !== undefined) {
        const sample = this.#sample(before);
        const states = await readCounted(this.#nc, this.#nodeId, sample, 0);
        const after = (await this.#simulator.ledger()).guilds;
        this.#before = after;
        for (const guildId of sample)
          this.#compare(guildId, before[guildId]!, after[guildId] ?? before[guildId]!, states);
        this.looks += sample.length;
      } else this.#before = (await this.#simulator.ledger()).guilds;
    } finally {
      this.#isLooking = false;
    }
  }

  /** The next guilds in turn, and those that something was missing of. */
  #sample(ledger: Ledger): string[] {
    const guildIds = Object.keys(ledger).filter((guildId) => guildId !== "dm");
    const count = Math.min(limits.ops.lookGuilds, guildIds.length);
    const sample = new Set(
      Array.from({ length: count }, (_, i) => guildIds[(this.#next + i) % guildIds.length]!),
    );
    this.#next += count;
    for (const guildId of this.#missing.keys()) if (guildId in ledger) sample.add(guildId);
    return [...sample];
  }

  #compare(guildId: string, before: Expected, after: Expected, states: ReadonlyMap<string, Counted>): void {
    const state = states.get(guildId) ?? nothingCounted;
    const only = new Map([[guildId, state]]);
    const twice = judge({ [guildId]: after }, this.#baseline, only).duplicated;
    if (twice > 0) this.#twice.set(guildId, twice);
    else this.#twice.delete(guildId);
    const known = this.#missing.get(guildId);
    const expected = known?.expected ?? before;
    const open = missingOf(expected, after, this.#baseline.get(guildId) ?? nothingCounted, state);
    const now = performance.now();
    if (open === 0) this.#missing.delete(guildId);
    else {
      const since = known?.since ?? now;
      this.#missing.set(guildId, {
        expected,
        since,
        lost: now - since >= limits.ops.lostAfterMs ? open : 0,
      });
    }
  }
}

/** What the earlier ledger had and the state does not; what the simulator took back since (nobody saw it) is not. */
function missingOf(before: Expected, after: Expected, baseline: Counted, state: Counted): number {
  let open = 0;
  for (const [t, count] of Object.entries(before.counts)) {
    if (notCompared.has(t)) continue;
    const sent = Math.min(count, after.counts[t] ?? 0);
    open += Math.max(0, sent - ((state.counts[t] ?? 0) - (baseline.counts[t] ?? 0)));
  }
  return Math.max(0, open - after.unconfirmed);
}
