/**
 * A simulator, its REST, and shards that count what they take: what the tests of this folder need.
 */
import type { ExecutionContext } from "ava";
import type { GatewayDispatchPayload } from "discord-api-types/v10";
import type { Logger } from "../../src/core/bot.js";
import type { GuildstreamError } from "../../src/core/errors.js";
import { guildIdOf } from "../../src/discord/dispatch.js";
import { createRest, type DiscordRest } from "../../src/discord/rest.js";
import { type SessionEvent, type SessionInfo, Shard, type ShardOptions } from "../../src/discord/shard.js";
import { type Simulator, type SimulatorOptions, startSimulator } from "../../src/simulator/index.js";

export const quiet: Logger = { debug() {}, info() {}, warn() {}, error() {} };

/** 1 << 0 .. 25: everything that is not privileged or of DMs, and members and message content. */
export const intents = 1 | 2 | 4 | 8 | 16 | 32 | 64 | 128 | 512 | 1024 | 2048 | 32768 | 65536;

/** The one shard of a bot, without its simulator and without anybody who listens. */
export const quietShard = {
  shardId: 0,
  shardCount: 1,
  intents,
  session: null,
  throttler: { waitForIdentify: async () => {} },
  log: quiet,
};

/** Resolves when the condition holds; the test's timeout ends the wait otherwise. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2));
}

export async function simulate(
  t: ExecutionContext,
  options: SimulatorOptions = {},
): Promise<{ simulator: Simulator; rest: DiscordRest }> {
  const simulator = await startSimulator({ guilds: 8, identifyIntervalMs: 0, paused: true, ...options });
  const rest = createRest({ token: simulator.token, apiUrl: simulator.apiUrl, log: quiet });
  t.teardown(async () => {
    rest.close();
    await simulator.close();
  });
  return { simulator, rest };
}

/** A shard that remembers what it took. */
export class Probe {
  readonly shard: Shard;
  readonly events: SessionEvent[] = [];
  readonly taken: { t: string; session: string; s: number; replayed: boolean }[] = [];
  /** By guild and name, without GUILD_CREATE and GUILD_DELETE. */
  readonly counts: Record<string, Record<string, number>> = {};
  fatal: GuildstreamError | undefined;
  /** Answers "full" from here on. */
  isFull = false;
  /** Called in the middle of taking a dispatch. */
  onTake: ((s: number) => void) | undefined;

  constructor(
    t: ExecutionContext,
    options: Pick<ShardOptions, "rest" | "token"> & { session?: SessionInfo | null } & Partial<ShardOptions>,
  ) {
    this.shard = new Shard({
      ...quietShard,
      ...options,
      session: options.session ?? null,
      onDispatch: (payload, session, replayed) => this.#take(payload, session, replayed),
      onSession: (event) => void this.events.push(event),
      onFatal: (error) => {
        this.fatal = error;
      },
    });
    t.teardown(() => this.shard.close({ resumable: true }));
  }

  #take(payload: GatewayDispatchPayload, session: string, replayed: boolean): boolean {
    if (this.isFull) return false;
    this.taken.push({ t: payload.t, session, s: payload.s, replayed });
    this.onTake?.(payload.s);
    const guildId = guildIdOf(payload);
    if (guildId === undefined || payload.t === "GUILD_CREATE" || payload.t === "GUILD_DELETE") return true;
    this.counts[guildId] ??= {};
    const counts = this.counts[guildId];
    counts[payload.t] = (counts[payload.t] ?? 0) + 1;
    return true;
  }

  kinds(): string[] {
    return this.events.map((event) => event.kind);
  }
}

/** Dispatches by guild as the probes took them and as the simulator sent them. */
export function totals(simulator: Simulator, probes: Probe[]): { taken: object; sent: object } {
  const taken: Record<string, Record<string, number>> = {};
  for (const { counts } of probes) {
    for (const [guildId, byName] of Object.entries(counts)) {
      taken[guildId] ??= {};
      for (const [t, count] of Object.entries(byName)) taken[guildId][t] = (taken[guildId][t] ?? 0) + count;
    }
  }
  const sent: Record<string, Record<string, number>> = {};
  for (const [guildId, { counts }] of Object.entries(simulator.ledger().guilds)) {
    const { GUILD_CREATE: _create, GUILD_DELETE: _delete, ...rest } = counts;
    if (Object.keys(rest).length > 0) sent[guildId] = rest;
  }
  return { taken, sent };
}

/** Stops the traffic and waits until the probes have taken all of it, or as much. */
export async function settle(simulator: Simulator, probes: Probe[]): Promise<void> {
  simulator.setTraffic({ running: false });
  const size = (record: object) =>
    Object.values(record as Record<string, Record<string, number>>)
      .flatMap((counts) => Object.values(counts))
      .reduce((sum, count) => sum + count, 0);
  await until(() => {
    const { taken, sent } = totals(simulator, probes);
    return size(taken) >= size(sent);
  });
}
