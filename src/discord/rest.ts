/**
 * Owns Discord's REST API as the runtime uses it: one @discordjs/rest for all shards, its errors made ours.
 *
 * Invariants:
 * - A wrong token is DISCORD_TOKEN_INVALID, and after one such answer no request with it leaves any more (Discord
 *   bans an address for ten thousand invalid requests in ten minutes; Rate Limits, "Invalid Request Limit").
 * - No answer at all, after retries, is DISCORD_UNREACHABLE. What may happen twice is retried, nothing else.
 * - Errors that leave here carry no token: neither the bot's nor an interaction's (it is in the URL).
 *
 * Used by the worker, the shards (gatewayUrl) and effects.ts.
 */
import { setTimeout as sleep } from "node:timers/promises";
import {
  DiscordAPIError,
  parseResponse,
  REST,
  type RequestData,
  type RequestMethod,
  type ResponseLike,
  type RouteLike,
} from "@discordjs/rest";
import {
  type APIApplication,
  type APIUser,
  type RESTGetAPIGatewayBotResult,
  type RESTPutAPIApplicationCommandsJSONBody,
  Routes,
} from "discord-api-types/v10";
import type { Logger, RestClient } from "../core/bot.js";
import { GuildstreamError, messageOf } from "../core/errors.js";
import type { SessionStartLimit } from "../core/identify.js";
import { limits } from "../core/limits.js";
import { tokenInvalid } from "./close-codes.js";
import { hasSameCommands } from "./commands.js";

export interface RestOptions {
  token: string;
  /** Discord's or a simulator's API, without the version: `https://discord.com/api`. */
  apiUrl?: string | undefined;
  log: Logger;
}

/** A request that Discord has refused; `code` is its JSON error code, 0 when it gave none. */
export class RestError extends Error {
  override readonly name = "RestError";
  constructor(
    message: string,
    readonly status: number,
    readonly code: number,
  ) {
    super(message);
  }
}

type Method = `${RequestMethod}`;

export class DiscordRest {
  readonly log: Logger;
  /** What handlers get. */
  readonly client: RestClient;
  readonly #rest: REST;
  readonly #apiUrl: string;
  #tokenError: GuildstreamError | undefined;
  #gateway: { url: Promise<string>; at: number } | undefined;

  constructor(options: RestOptions) {
    this.log = options.log;
    this.#apiUrl = (options.apiUrl ?? "https://discord.com/api").replace(/\/+$/, "").replace(/\/v\d+$/, "");
    this.#rest = new REST({
      api: this.#apiUrl,
      version: "10",
      timeout: limits.restTimeoutMs,
      // Ours, in `request`: with a pause between, and only for what may happen twice.
      retries: 0,
      handlerSweepInterval: limits.restSweepIntervalMs,
      userAgentAppendix: "guildstream",
    }).setToken(options.token);
    this.#rest.on("rateLimited", ({ route, timeToReset, global, scope }) => {
      this.log.warn({ route, waitMs: timeToReset, global, scope }, "Discord's rate limit is reached");
    });
    this.client = {
      get: (route) => this.request("GET", route),
      post: (route, { body } = {}) => this.request("POST", route, { body }),
      put: (route, { body } = {}) => this.request("PUT", route, { body }),
      patch: (route, { body } = {}) => this.request("PATCH", route, { body }),
      delete: (route) => this.request("DELETE", route),
    };
  }

  /**
   * One request, through rate limits and, where it may happen twice, retries.
   *
   * @throws RestError when Discord refuses; GuildstreamError DISCORD_TOKEN_INVALID, DISCORD_UNREACHABLE.
   */
  async request(
    method: Method,
    route: RouteLike,
    options: Pick<RequestData, "body" | "auth"> & {
      attempts?: number;
      onResponse?: (response: ResponseLike) => void;
    } = {},
  ): Promise<unknown> {
    const {
      attempts = method === "POST" || method === "PATCH" ? 1 : limits.effectAttemptsMax,
      onResponse,
      ...data
    } = options;
    for (let attempt = 1; ; attempt += 1) {
      if (this.#tokenError !== undefined && data.auth !== false) throw this.#tokenError;
      try {
        const request = { ...data, method: method as RequestMethod, fullRoute: route };
        const response = await this.#rest.queueRequest(request);
        onResponse?.(response);
        return await parseResponse(response);
      } catch (error) {
        const translated = this.#translate(error, data.auth !== false);
        if (attempt >= attempts || !mayRecover(translated)) throw translated;
        await sleep(limits.restRetryMinMs * 2 ** (attempt - 1) * (0.5 + Math.random()));
      }
    }
  }

  /** GET /gateway/bot: the URL, the recommended shard count, and what is left of the identify budget. */
  async gatewayBot(): Promise<RESTGetAPIGatewayBotResult> {
    return (await this.#askGateway()).gateway;
  }

  /** The same answer's identify budget, its reset told by Discord's clock (the answer's Date header). */
  async sessionStartLimit(): Promise<SessionStartLimit> {
    const { gateway, answeredAt } = await this.#askGateway();
    const limit = gateway.session_start_limit;
    return {
      total: limit.total,
      remaining: limit.remaining,
      resetAfterMs: limit.reset_after,
      resetAt: answeredAt + limit.reset_after,
      maxConcurrency: Math.max(1, limit.max_concurrency),
    };
  }

  /** Where shards connect; asked once a minute at most, however many shards start. */
  gatewayUrl(): Promise<string> {
    if (this.#gateway !== undefined && performance.now() - this.#gateway.at < limits.gatewayUrlAgeMs) {
      return this.#gateway.url;
    }
    const url = this.#askGateway().then(({ gateway }) => gateway.url);
    const entry = { url, at: performance.now() };
    this.#gateway = entry;
    url.catch(() => {
      if (this.#gateway === entry) this.#gateway = undefined;
    });
    return url;
  }

  /** Discord answers this one seldom (a few times in 5 s): whatever it was asked for, the URL is kept. */
  async #askGateway(): Promise<{ gateway: RESTGetAPIGatewayBotResult; answeredAt: number }> {
    // A proxy may leave the header out; then this machine's clock has to do.
    let answeredAt = Date.now();
    const body = await this.request("GET", Routes.gatewayBot(), {
      onResponse: ({ headers }) => {
        const date = Date.parse(headers.get("date") ?? "");
        if (!Number.isNaN(date)) answeredAt = date;
      },
    });
    const gateway = body as RESTGetAPIGatewayBotResult;
    this.#gateway = { url: Promise.resolve(gateway.url), at: performance.now() };
    return { gateway, answeredAt };
  }

  /** The bot's own user. The first call of a start: it tells whether the token is good. */
  async currentUser(): Promise<APIUser> {
    return (await this.request("GET", "/users/@me")) as APIUser;
  }

  async application(): Promise<APIApplication> {
    return (await this.request("GET", Routes.currentApplication())) as APIApplication;
  }

  /**
   * Makes the application's global commands these ones, in one request, unless they are already.
   * Not for every start: Discord counts command creations (200 a day).
   */
  async registerCommands(
    definitions: RESTPutAPIApplicationCommandsJSONBody,
    applicationId?: string,
  ): Promise<"registered" | "unchanged"> {
    const id = applicationId ?? (await this.application()).id;
    const present = await this.request("GET", Routes.applicationCommands(id));
    if (hasSameCommands(present, definitions)) return "unchanged";
    await this.request("PUT", Routes.applicationCommands(id), { body: definitions });
    return "registered";
  }

  /** Stops the timers; requests underway go on. */
  close(): void {
    this.#rest.clearHandlerSweeper();
    this.#rest.clearHashSweeper();
  }

  #translate(error: unknown, withToken: boolean): Error {
    if (error instanceof DiscordAPIError) {
      if (error.status === 401 && withToken) {
        this.#tokenError = tokenInvalid();
        return this.#tokenError;
      }
      const code = Number(error.code);
      return new RestError(error.message, error.status, Number.isInteger(code) ? code : 0);
    }
    // The library's HTTPError: a 5xx. A proxy's page where Discord should be ends here as well.
    const status = (error as { status?: unknown }).status;
    if (typeof status === "number") return new RestError(messageOf(error), status, 0);
    if (this.#tokenError !== undefined && withToken) return this.#tokenError;
    return new GuildstreamError(
      "DISCORD_UNREACHABLE",
      `Discord does not answer at ${this.#apiUrl}: ${reasonOf(error)}`,
      {
        hint: "check the network and --discord-api; Discord's own state is at https://discordstatus.com",
      },
    );
  }
}

export function createRest(options: RestOptions): DiscordRest {
  return new DiscordRest(options);
}

/** A network error's words. A happy-eyeballs failure is an AggregateError without a message of its own. */
function reasonOf(error: unknown): string {
  const { code, errors } = error as { code?: unknown; errors?: unknown[] };
  const inner = messageOf(Array.isArray(errors) ? errors[0] : error);
  return inner !== "" ? inner : String(code ?? "no reason given");
}

function mayRecover(error: Error): boolean {
  if (error instanceof RestError) return error.status >= 500;
  return error instanceof GuildstreamError && error.code === "DISCORD_UNREACHABLE";
}
