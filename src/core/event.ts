/**
 * Owns the messages of the guild log: their shapes, their text, their validation.
 *
 * Invariants:
 * - Whatever is decoded here is validated; whatever is not valid is an error with a reason, never a guess.
 * - (epoch, rev) identifies an event of a guild.
 * - The wire version is `v`; a message of another version is refused by name.
 *
 * Used by the guild log (encode), the database nodes and the loader (decode).
 */
import type { Operation } from "fast-json-patch";
import { z } from "zod";
import { GuildstreamError } from "./errors.js";
import { kindHeader } from "./subjects.js";

export const wireVersion = 1;

export type MessageKind = "event" | "snapshot" | "tombstone";

/** What made an event: the last dispatch in it. `t` is Discord's event name, `id` the object's id if it has one. */
export interface Cause {
  shard: number;
  session: string;
  s: number;
  t: string;
  id?: string | undefined;
}

/** The last dispatch that the guild's state reflects. `s` compares only within one session. */
export interface Cursor {
  session: string;
  s: number;
}

/** Something to do at Discord once the event is in the log; kept in the event so that the next owner can do it. */
export type Effect =
  | { kind: "answer"; interactionId: string; token: string; at: number; body: unknown }
  | {
      kind: "followUp";
      applicationId: string;
      interactionId: string;
      token: string;
      at: number;
      body: unknown;
    }
  | { kind: "message"; channelId: string; nonce: string; body: unknown };

export interface GuildEvent {
  v: number;
  rev: number;
  epoch: number;
  by: string;
  at: number;
  ops: Operation[];
  cause: Cause;
  effects?: Effect[] | undefined;
}

export interface Snapshot {
  v: number;
  rev: number;
  epoch: number;
  by: string;
  at: number;
  state: unknown;
  cursor: Cursor | null;
  head: number;
}

export interface Tombstone {
  v: number;
  rev: number;
  epoch: number;
  by: string;
  at: number;
}

export type LogMessage =
  | ({ kind: "event" } & GuildEvent)
  | ({ kind: "snapshot" } & Snapshot)
  | ({ kind: "tombstone" } & Tombstone);

const count = z.number().int().nonnegative();
const pointer = z.string().refine((path) => path === "" || path.startsWith("/"), "not a JSON pointer");
const operation = z.discriminatedUnion("op", [
  z.strictObject({ op: z.literal("add"), path: pointer, value: z.unknown() }),
  z.strictObject({ op: z.literal("replace"), path: pointer, value: z.unknown() }),
  z.strictObject({ op: z.literal("remove"), path: pointer }),
  z.strictObject({ op: z.literal("move"), path: pointer, from: pointer }),
  z.strictObject({ op: z.literal("copy"), path: pointer, from: pointer }),
  z.strictObject({ op: z.literal("test"), path: pointer, value: z.unknown() }),
]);
const envelope = {
  v: z.literal(wireVersion),
  rev: count,
  epoch: count,
  by: z.string().min(1),
  at: z.number(),
};
const cursorShape = z.object({ session: z.string(), s: count });
const causeShape = z.object({
  shard: count,
  session: z.string(),
  s: count,
  t: z.string(),
  id: z.string().optional(),
});
const effectShape = z.discriminatedUnion("kind", [
  z.object({
    kind: z.literal("answer"),
    interactionId: z.string(),
    token: z.string(),
    at: z.number(),
    body: z.unknown(),
  }),
  z.object({
    kind: z.literal("followUp"),
    applicationId: z.string(),
    interactionId: z.string(),
    token: z.string(),
    at: z.number(),
    body: z.unknown(),
  }),
  z.object({ kind: z.literal("message"), channelId: z.string(), nonce: z.string(), body: z.unknown() }),
]);
const shapes = {
  event: z.object({
    ...envelope,
    ops: z.array(operation),
    cause: causeShape,
    effects: z.array(effectShape).optional(),
  }),
  snapshot: z.object({ ...envelope, state: z.unknown(), cursor: cursorShape.nullable(), head: count }),
  tombstone: z.object(envelope),
} as const;

/**
 * Texts that may hold a key or pointer segment that reaches an object's prototype, which are refused wherever they
 * cross the wire; only these are walked. An escaped ASCII letter, which JSON.stringify never writes, could hide one.
 */
const prototypePattern =
  /__proto__|"constructor"|"prototype"|\/constructor(\/|")|\/prototype(\/|")|\\u00[2-7]/;

function invalid(reason: string, cause?: unknown): GuildstreamError {
  return new GuildstreamError("MESSAGE_INVALID", reason, { cause });
}

/**
 * Decodes a message of the guild log.
 * @throws GuildstreamError MESSAGE_INVALID with the reason; nothing else.
 */
export function decodeMessage(kind: string | undefined, text: string): LogMessage {
  if (kind !== "event" && kind !== "snapshot" && kind !== "tombstone") {
    throw invalid(kind ? `unknown ${kindHeader} "${kind.slice(0, 40)}"` : `no ${kindHeader} header`);
  }
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch (cause) {
    throw invalid("not JSON", cause);
  }
  if (kind === "event" && isWellFormedEvent(body)) {
    if (prototypePattern.test(text)) assertNoPrototype(body.ops);
    return Object.assign(body, { kind: "event" as const });
  }
  const version = (body as { v?: unknown } | null)?.v;
  if (typeof version === "number" && version !== wireVersion) {
    throw invalid(`unknown version ${version} (this code speaks ${wireVersion})`);
  }
  const parsed = shapes[kind].safeParse(body);
  if (!parsed.success) throw invalid(`bad ${kind}: ${z.prettifyError(parsed.error).slice(0, 300)}`);
  if (prototypePattern.test(text)) assertNoPrototype(kind === "event" ? (body as GuildEvent).ops : body);
  return { kind, ...(parsed.data as object) } as LogMessage;
}

/**
 * The hot path of validation: the same demands as the event schema, by hand, at a tenth of its cost.
 * Whatever fails here goes through the schema, which names the reason.
 */
function isWellFormedEvent(body: unknown): body is GuildEvent {
  const event = body as Partial<GuildEvent> | null;
  if (event === null || typeof event !== "object" || event.v !== wireVersion) return false;
  if (!isCount(event.rev) || !isCount(event.epoch)) return false;
  if (typeof event.by !== "string" || event.by === "" || typeof event.at !== "number") return false;
  const cause = event.cause as Partial<Cause> | undefined;
  if (cause === undefined || cause === null || typeof cause !== "object") return false;
  if (!isCount(cause.shard) || !isCount(cause.s)) return false;
  if (typeof cause.session !== "string" || typeof cause.t !== "string") return false;
  if (cause.id !== undefined && typeof cause.id !== "string") return false;
  if (event.effects !== undefined) return false;
  if (!Array.isArray(event.ops)) return false;
  for (const op of event.ops as Partial<Operation & { value: unknown }>[]) {
    if (op === null || typeof op !== "object" || typeof op.path !== "string") return false;
    if (op.path !== "" && op.path.charCodeAt(0) !== 47) return false;
    if (op.op === "add" || op.op === "replace") {
      if (!("value" in op)) return false;
    } else if (op.op !== "remove") return false;
  }
  return true;
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

const prototypeKeys = new Set(["__proto__", "constructor", "prototype"]);

/** Walks a value; refuses keys and pointer segments that reach a prototype. Strings as plain data are fine. */
function assertNoPrototype(value: unknown): void {
  if (value === null || typeof value !== "object") return;
  for (const key of Object.keys(value)) {
    if (prototypeKeys.has(key)) throw invalid(`refused key "${key}"`);
    const child = (value as Record<string, unknown>)[key];
    if ((key === "path" || key === "from") && typeof child === "string") {
      const segment = child.split("/").find((part) => prototypeKeys.has(part));
      if (segment !== undefined) throw invalid(`refused pointer "${child.slice(0, 80)}"`);
    }
    assertNoPrototype(child);
  }
}

/** Whether a JSON value can be kept as guild state: no key that reaches a prototype. */
export function isSafeState(state: unknown): boolean {
  try {
    assertNoPrototype(state);
    return true;
  } catch {
    return false;
  }
}

/** The text of an event, from ops that are JSON already (each dispatch's ops are stringified once). */
export function encodeEvent(event: {
  rev: number;
  epoch: number;
  by: string;
  at: number;
  opsJson: string;
  cause: Cause;
  effects: readonly Effect[];
}): string {
  const effects = event.effects.length > 0 ? `,"effects":${JSON.stringify(event.effects)}` : "";
  return (
    `{"v":${wireVersion},"rev":${event.rev},"epoch":${event.epoch},"by":${JSON.stringify(event.by)},"at":${event.at},` +
    `"ops":[${event.opsJson}],"cause":${JSON.stringify(event.cause)}${effects}}`
  );
}
