/**
 * Owns talking to the simulator's control: ledger, statistics, traffic. Called by the supervisor and the benches.
 */
import { GuildstreamError, messageOf } from "../../core/errors.js";
import { limits } from "../../core/limits.js";
import type { LedgerReport, StatsReport } from "../../simulator/index.js";

export class SimulatorClient {
  readonly #url: string;

  /** @param apiUrl the REST base that the simulator said it has; /control is beside it. */
  constructor(readonly apiUrl: string) {
    this.#url = apiUrl.replace(/\/api\/?$/, "");
  }

  ledger(): Promise<LedgerReport> {
    return this.#ask("GET", "/control/ledger");
  }

  stats(): Promise<StatsReport> {
    return this.#ask("GET", "/control/stats");
  }

  async setTraffic(change: { running?: boolean; ratePerSecond?: number }): Promise<void> {
    await this.#ask("POST", "/control/traffic", change);
  }

  /** How many shards it recommends, as Discord would. */
  async recommendedShards(token: string): Promise<number> {
    const gateway = await this.#ask<{ shards: number }>("GET", "/api/v10/gateway/bot", undefined, {
      authorization: `Bot ${token}`,
    });
    return gateway.shards;
  }

  async #ask<T>(
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<T> {
    try {
      const response = await fetch(`${this.#url}${path}`, {
        method,
        headers: { ...headers, ...(body === undefined ? {} : { "content-type": "application/json" }) },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        signal: AbortSignal.timeout(limits.ops.simulatorRequestTimeoutMs),
      });
      const text = await response.text();
      if (!response.ok) throw new Error(`${response.status} ${text.slice(0, 200)}`);
      return (text === "" ? undefined : JSON.parse(text)) as T;
    } catch (cause) {
      throw new GuildstreamError(
        "DISCORD_UNREACHABLE",
        `the simulator did not answer ${path}: ${messageOf(cause)}`,
        {
          cause,
          hint: "its log is simulator.log in the data folder's logs",
        },
      );
    }
  }
}
