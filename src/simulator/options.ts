/**
 * What a simulator can be asked to be: the options, their defaults and their check.
 *
 * Used by index.ts (resolve once) and read, resolved, everywhere else.
 */
import { z } from "zod";
import { LIMITS } from "./limits.js";

const count = (max: number) => z.number().int().min(0).max(max);

const schema = z.strictObject({
  port: count(65_535).default(0),
  host: z.string().min(1).default("127.0.0.1"),
  guilds: count(LIMITS.guildsMax).default(2_500),
  ratePerSecond: z.number().min(0).max(LIMITS.ratePerSecondMax).default(200),
  seed: z.number().int().min(0).max(4_294_967_295).default(1),
  shards: z.number().int().min(1).max(LIMITS.guildsMax).optional(),
  maxConcurrency: z.number().int().min(1).default(1),
  identifyLimit: z.number().int().min(0).default(LIMITS.identifyTotal),
  identifyIntervalMs: count(60_000).default(LIMITS.identifyIntervalMs),
  identifyResetMs: z.number().int().min(1).default(LIMITS.identifyResetMs),
  replayWindow: z.number().int().min(1).max(10_000_000).default(LIMITS.replayWindow),
  token: z.string().min(1).default("simulator-token"),
  heartbeatIntervalMs: z.number().int().min(50).default(LIMITS.heartbeatIntervalMs),
  identifyTimeoutMs: z.number().int().min(1).max(86_400_000).default(LIMITS.identifyTimeoutMs),
  sessionTtlMs: count(86_400_000).default(LIMITS.sessionTtlMs),
  interactionAnswerMs: z.number().int().min(1).max(60_000).default(LIMITS.interactionAnswerMs),
  interactionTokenMs: z.number().int().min(1).default(LIMITS.interactionTokenMs),
  globalRequestsPerSecond: z.number().int().min(1).default(LIMITS.globalRequests),
  disallowedIntents: z.number().int().min(0).default(0),
  echoBotMessages: z.boolean().default(true),
  paused: z.boolean().default(false),
  applicationId: z
    .string()
    .regex(/^\d{15,20}$/, "must be a snowflake: 15 to 20 digits")
    .default("1000000000000000000"),
});

/**
 * What `startSimulator` takes; every field has a default.
 *
 * - `port` 0 takes a free one. `host` other than loopback opens REST and gateway, never /control.
 * - `guilds`, `ratePerSecond`, `seed`: the world and its traffic. `paused` waits for /control/traffic.
 * - `shards`, `maxConcurrency`, `identifyLimit`: what GET /gateway/bot says and IDENTIFY is held to.
 * - `replayWindow`: dispatches a RESUME can reach back. `sessionTtlMs`: how long it may take to come.
 * - `identifyTimeoutMs`: how long a connection may go without IDENTIFY or RESUME.
 * - `interactionAnswerMs`, `interactionTokenMs`, `identifyIntervalMs`, `identifyResetMs`, `heartbeatIntervalMs`:
 *   Discord's times, to be shortened in tests.
 * - `disallowedIntents`: bits that IDENTIFY is refused for with close code 4014.
 * - `echoBotMessages`: messages the bot creates come back as MESSAGE_CREATE, as on Discord.
 */
export type SimulatorOptions = z.input<typeof schema>;

/** The options with every default filled in. */
export type ResolvedOptions = z.output<typeof schema> & { shards: number };

/**
 * Checks options and fills in defaults.
 *
 * @throws TypeError that names each wrong option and what it has to be.
 */
export function resolveOptions(options: SimulatorOptions): ResolvedOptions {
  const parsed = schema.safeParse(options);
  if (!parsed.success) {
    throw new TypeError(`simulator options: ${describeIssues(parsed.error)}`);
  }
  const shards = parsed.data.shards ?? Math.max(1, Math.ceil(parsed.data.guilds / LIMITS.guildsPerShard));
  return { ...parsed.data, shards };
}

/** One line for all that a schema found wrong: `path: what it has to be; ...`. */
export function describeIssues(error: z.ZodError): string {
  return error.issues
    .map((issue) => `${issue.path.length > 0 ? issue.path.join(".") : "value"}: ${issue.message}`)
    .join("; ");
}
