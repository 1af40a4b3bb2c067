/**
 * The shapes REST is made of: a route, a request to it, a reply, an error as Discord words it.
 *
 * Used by rest.ts (which finds and runs routes) and by the route files. API Reference, "Error Messages".
 */
import type { z } from "zod";
import type { Simulation } from "./simulation.js";

/** How often a route may be called per bucket; the bucket is the route and its major parameter. */
export interface BucketRule {
  readonly limit: number;
  readonly windowMs: number;
}

export interface UploadedFile {
  readonly name: string;
  readonly bytes: number;
  readonly contentType: string;
}

export interface RestRequest {
  readonly simulation: Simulation;
  readonly params: Readonly<Record<string, string>>;
  readonly query: URLSearchParams;
  /** The JSON body, or `payload_json` of a form; undefined without one. */
  readonly body: unknown;
  readonly files: readonly UploadedFile[];
  readonly gatewayUrl: string;
}

export interface RestReply {
  readonly status: number;
  readonly body?: unknown;
}

export interface Route {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** Path after /api/v10 with `:name` parameters. */
  readonly path: string;
  /**
   * No bot token is asked for, as the path holds one of its own or nothing is secret; such requests
   * do not count against the requests per second of the bot either.
   */
  readonly open?: boolean;
  /** Absent: the route has no limit of its own. */
  readonly bucket?: BucketRule;
  handle(request: RestRequest): RestReply;
}

/** An error reply: HTTP status, Discord's JSON error code and its message. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: number,
    message: string,
    readonly errors?: unknown,
  ) {
    super(message);
  }
}

export const notFound = (code: number, what: string) => new ApiError(404, code, `Unknown ${what}`);

/**
 * The body as a schema wants it.
 *
 * @throws ApiError 400 with code 50035 (Invalid Form Body) that names each wrong field.
 */
export function parseBody<S extends z.ZodType>(schema: S, body: unknown): z.output<S> {
  const parsed = schema.safeParse(body);
  if (parsed.success) return parsed.data;
  const errors: Record<string, unknown> = {};
  for (const issue of parsed.error.issues) {
    let place = errors;
    for (const key of issue.path) {
      place[String(key)] ??= {};
      place = place[String(key)] as Record<string, unknown>;
    }
    place._errors = [...((place._errors as unknown[]) ?? []), describe(issue)];
  }
  throw new ApiError(400, 50035, "Invalid Form Body", errors);
}

function describe(issue: z.core.$ZodIssue): { code: string; message: string } {
  if (issue.code === "too_big") {
    return { code: "BASE_TYPE_MAX_LENGTH", message: `Must be ${issue.maximum} or fewer in length.` };
  }
  if (issue.code === "too_small") {
    return { code: "BASE_TYPE_MIN_LENGTH", message: `Must be ${issue.minimum} or more in length.` };
  }
  if (issue.code === "invalid_type" && issue.message.includes("received undefined")) {
    return { code: "BASE_TYPE_REQUIRED", message: "This field is required" };
  }
  return { code: "BASE_TYPE_BAD_TYPE", message: issue.message };
}
