/**
 * The traffic clock: how often something happens, in which guild, and what.
 *
 * Invariants: over any second without a stall the number of happenings is rate x time; happening n of
 * a seed is always the same kind in the same guild (given the same guilds joined); no state is changed
 * for a guild that no session listens to. Started and set by index.ts and control.ts.
 */
import { directMessage, HAPPENINGS } from "./happenings.js";
import { LIMITS } from "./limits.js";
import { mix, Random } from "./random.js";
import type { Simulation } from "./simulation.js";

/** What happens at one beat: in which guild (a place in the world) and of which kind. */
export interface Beat {
  readonly kind: Kind;
  readonly guild: number;
}

export type Kind = keyof typeof SHARES;

/** The mix; the shares sum to 1. */
const SHARES = {
  message: 0.7,
  interaction: 0.1,
  memberUpdate: 0.08,
  directMessage: 0.01,
  typing: 0.05,
  voiceState: 0.03,
  channel: 0.015,
  role: 0.01,
  membership: 0.005,
} as const;

const MIX = Object.entries(SHARES) as [Kind, number][];

/** How uneven guilds are: 1 is even; at 2.5 a tenth of the guilds get two fifths of the traffic. */
const SKEW = 2.5;

/** The n-th beat of a seed in a world of `guilds` guilds. */
export function beat(seed: number, n: number, guilds: number): Beat {
  const random = new Random(mix(seed, n, 91));
  const guild = Math.floor(random.next() ** SKEW * guilds);
  let luck = random.next();
  for (const [kind, share] of MIX) {
    if (luck < share) return { kind, guild };
    luck -= share;
  }
  return { kind: "message", guild };
}

export class Traffic {
  #ratePerSecond: number;
  #timer: NodeJS.Timeout | null = null;
  #beats = 0;
  /** Beats owed, a fraction carried from tick to tick. */
  #owed = 0;
  #lastAtMs = 0;
  /** Guilds that traffic made the bot leave, in that order. */
  readonly #left: number[] = [];

  constructor(private readonly simulation: Simulation) {
    this.#ratePerSecond = simulation.options.ratePerSecond;
  }

  get running(): boolean {
    return this.#timer !== null;
  }

  get ratePerSecond(): number {
    return this.#ratePerSecond;
  }

  setRate(ratePerSecond: number): void {
    this.#ratePerSecond = ratePerSecond;
    this.#owed = 0;
  }

  start(): void {
    if (this.#timer !== null) return;
    this.#lastAtMs = performance.now();
    this.#owed = 0;
    this.#timer = setInterval(() => this.#tick(), LIMITS.trafficTickMs);
    this.#timer.unref();
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }

  #tick(): void {
    const nowMs = performance.now();
    const elapsedMs = Math.min(nowMs - this.#lastAtMs, LIMITS.trafficCatchUpMs);
    this.#lastAtMs = nowMs;
    if (this.simulation.world.size === 0) return;
    const owedMax = (LIMITS.trafficCatchUpMs / 1_000) * this.#ratePerSecond;
    this.#owed = Math.min(this.#owed + (elapsedMs / 1_000) * this.#ratePerSecond, Math.max(1, owedMax));
    // A rate beyond this machine's must not keep the event loop from sending: what is left over waits.
    const untilMs = nowMs + LIMITS.trafficTickBudgetMs;
    for (; this.#owed >= 1 && performance.now() < untilMs; this.#owed--) this.#happen();
  }

  #happen(): void {
    const { options, world } = this.simulation;
    const n = this.#beats++;
    const { kind, guild: chosen } = beat(options.seed, n, world.size);
    const guild = this.#nextJoined(chosen);
    const random = new Random(mix(options.seed, n, 92));
    if (kind === "directMessage") {
      directMessage(this.simulation, random);
      return;
    }
    if (kind === "membership") {
      this.#leaveOrJoin(guild);
      return;
    }
    if (!this.simulation.isHeard(guild)) return;
    HAPPENINGS[kind](this.simulation, guild, random);
  }

  /** The guild itself, or the first after it that the bot is in. */
  #nextJoined(guild: number): number {
    const { world } = this.simulation;
    let next = guild;
    for (let tries = 0; tries < world.size && world.status(next) !== "joined"; tries++) {
      next = (next + 1) % world.size;
    }
    return next;
  }

  #leaveOrJoin(guild: number): void {
    const oldest = this.#left[0];
    if (this.#left.length >= LIMITS.guildsLeft || (oldest !== undefined && guild % 2 === 0)) {
      if (!this.simulation.isHeard(oldest!)) return;
      this.#left.shift();
      this.simulation.setGuildStatus(oldest!, "joined");
    } else if (this.simulation.isHeard(guild)) {
      this.#left.push(guild);
      this.simulation.setGuildStatus(guild, "left");
    }
  }
}
