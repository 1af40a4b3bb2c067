/**
 * The REST side: finds the route of a request, checks token and rate limits, reads the body, replies.
 *
 * Invariants: every request gets exactly one reply; errors have Discord's shape {message, code};
 * only a bug of the simulator answers 500. Serves /api, /api/v10 (API Reference). Used by index.ts.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { applicationRoutes } from "./application-routes.js";
import { guildRoutes } from "./guild-routes.js";
import { readBody, sendJson } from "./http-body.js";
import { interactionRoutes } from "./interaction-routes.js";
import { LIMITS } from "./limits.js";
import { messageRoutes } from "./message-routes.js";
import { RateLimits } from "./rate-limits.js";
import { ApiError, type RestReply, type Route } from "./rest-api.js";
import type { Simulation } from "./simulation.js";

interface Compiled {
  readonly route: Route;
  readonly segments: readonly string[];
}

/** The parameters that give a bucket of its own, most specific first. */
const MAJOR_PARAMETERS = ["channelId", "guildId", "token"];

export class Rest {
  readonly #routes: readonly Compiled[] = [
    ...applicationRoutes,
    ...guildRoutes,
    ...messageRoutes,
    ...interactionRoutes,
  ].map((route) => ({ route, segments: route.path.split("/").slice(1) }));
  readonly #limits: RateLimits;
  /** Replies that a fault replaces by errors. */
  #failure = { status: 500, left: 0 };

  constructor(private readonly simulation: Simulation) {
    this.#limits = new RateLimits(simulation.options.globalRequestsPerSecond);
  }

  /** Makes the next `count` requests fail with a status (a fault). */
  failNext(count: number, status: number): void {
    this.#failure = { status, left: count };
  }

  /** Answers a request whose path begins with /api. */
  async handle(request: IncomingMessage, response: ServerResponse, url: URL): Promise<void> {
    const { counters } = this.simulation;
    counters.requests++;
    try {
      const reply = await this.#reply(request, response, url);
      sendJson(response, reply.status, reply.body);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if ([401, 403, 429].includes(error.status)) counters.invalidRequests++;
      const { message, code, errors } = error;
      sendJson(response, error.status, errors === undefined ? { message, code } : { message, code, errors });
    }
  }

  async #reply(request: IncomingMessage, response: ServerResponse, url: URL): Promise<RestReply> {
    const body = await readBody(request, LIMITS.bodyBytes);
    if (this.#failure.left > 0) {
      this.#failure.left--;
      throw new ApiError(this.#failure.status, 0, `${this.#failure.status}: a fault asked for this`);
    }
    const { route, params } = this.#find(request.method ?? "GET", url.pathname);
    if (route.open !== true && request.headers.authorization !== `Bot ${this.simulation.options.token}`) {
      throw new ApiError(401, 0, "401: Unauthorized");
    }
    const major = params[MAJOR_PARAMETERS.find((name) => name in params) ?? ""] ?? "";
    const verdict = this.#limits.take(
      `${route.method} ${route.path}`,
      major,
      route.bucket,
      route.open !== true,
    );
    for (const [name, value] of Object.entries(verdict.headers)) response.setHeader(name, value);
    if (verdict.refused !== null) {
      this.simulation.counters.rateLimited++;
      this.simulation.counters.invalidRequests++;
      const { retryAfterMs, global } = verdict.refused;
      const message = "You are being rate limited.";
      return { status: 429, body: { message, retry_after: Math.ceil(retryAfterMs) / 1_000, global } };
    }
    return route.handle({
      simulation: this.simulation,
      params,
      query: url.searchParams,
      body: body.json,
      files: body.files,
      // The name the client knows this server by, which it can surely reach.
      gatewayUrl: `ws://${request.headers.host}`,
    });
  }

  #find(method: string, pathname: string): { route: Route; params: Record<string, string> } {
    const path = pathname
      .replace(/^\/api(\/v\d+)?/, "")
      .split("/")
      .slice(1);
    if (/^\/api\/v(?!10\/)\d+\//.test(pathname)) throw new ApiError(400, 50041, "Invalid API version");
    let methodsDiffer = false;
    for (const { route, segments } of this.#routes) {
      const params = match(segments, path);
      if (params === null) continue;
      if (route.method === method) return { route, params };
      methodsDiffer = true;
    }
    if (methodsDiffer) throw new ApiError(405, 0, "405: Method Not Allowed");
    throw new ApiError(404, 0, "404: Not Found");
  }
}

function match(segments: readonly string[], path: readonly string[]): Record<string, string> | null {
  if (segments.length !== path.length) return null;
  const params: Record<string, string> = {};
  for (const [at, segment] of segments.entries()) {
    if (segment.startsWith(":")) params[segment.slice(1)] = decodeSegment(path[at]!);
    else if (segment !== path[at]) return null;
  }
  return params;
}

/** A path segment without percent signs; one that is no valid encoding stays as it is. */
function decodeSegment(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}
