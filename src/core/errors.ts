/**
 * Owns the errors of the world: everything that can go wrong outside our own logic has a code,
 * a message that says what happened, and a hint that says what to do. Our own bugs are `assert`s.
 */

export type ErrorCode =
  | "ABORTED"
  | "BOT_INVALID"
  | "BOT_LOAD_FAILED"
  | "BOT_NOT_FOUND"
  | "CONFIG_INVALID"
  | "CONSUMER_LOST"
  | "DATA_DIR_IN_USE"
  | "DISCORD_TOKEN_INVALID"
  | "DISCORD_UNREACHABLE"
  | "DISK_FULL"
  | "DISK_FAILED"
  | "GATEWAY_CLOSED"
  | "GUILD_FENCED"
  | "GUILD_TOO_LARGE"
  | "GUILD_UNAVAILABLE"
  | "HANDOVER_INCOMPLETE"
  | "HOTBOOT_DISMISSED"
  | "HOTBOOT_FAILED"
  | "HOTBOOT_REFUSED"
  | "IDENTIFY_LIMIT"
  | "LIST_AWAY"
  | "MEMBER_ID_TAKEN"
  | "MESSAGE_INVALID"
  | "NATS_AUTH"
  | "NATS_MAX_PAYLOAD"
  | "NATS_NO_JETSTREAM"
  | "NATS_SERVER_NOT_FOUND"
  | "NATS_SERVER_START_FAILED"
  | "NATS_SERVER_TOO_OLD"
  | "NATS_UNREACHABLE"
  | "NOBODY_ANSWERS"
  | "STATE_INVALID"
  | "STATE_VERSION"
  | "STREAM_FAILED";

/** An error of the world: `code` to match on, `hint` for the person who must act, `cause` for the rest. */
export class GuildstreamError extends Error {
  readonly code: ErrorCode;
  readonly hint: string | undefined;

  constructor(code: ErrorCode, message: string, options: { cause?: unknown; hint?: string } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "GuildstreamError";
    this.code = code;
    this.hint = options.hint;
  }
}

/** Crashes on a bug of ours; never used for bad input. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`assertion failed: ${message}`);
}

/** Closes a `switch` over a union: a new member becomes a compile error here. */
export function never(value: never): never {
  throw new Error(`assertion failed: impossible value ${JSON.stringify(value)}`);
}

/** The message of anything thrown, for logs. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
