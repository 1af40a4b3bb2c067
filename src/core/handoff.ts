/**
 * Owns the words of a handoff (worker/handoff/handoff.md): the messages that carry a shard's guilds from one worker's
 * life to another's, what the two ask of each other, and the steps that each side goes through.
 *
 * Invariants:
 * - Messages of one move are numbered from 1 without a gap, guilds and dispatches alike: a hole is seen at once.
 * - A guild's state (or the word that it lies in the log) comes before any dispatch of it.
 * - Steps are only taken along the tables below; whoever adds one is made to say where it leads, and the tests that
 *   kill a process at every step read these tables.
 */
import { z } from "zod";
import { assert } from "./errors.js";
import { documentShape, sessionEntry } from "./members.js";

export const handoffVersion = 1;

const count = z.number().int().nonnegative();
const envelope = { v: z.literal(handoffVersion), move: z.string().min(1), n: z.number().int().positive() };

/** A session without the time of its checkpoint. */
export const sessionShape = sessionEntry.omit({ at: true });

/** The guild as the parent has it; `dirty`: not yet saved by enough database nodes. */
export const stateMessage = z.object({
  ...envelope,
  document: documentShape,
  dirty: z.boolean(),
  /** When the parent locked the guild, Unix ms with a fraction; on one machine the pause is measured from it. */
  lockedAt: z.number(),
});
export type StateMessage = z.infer<typeof stateMessage>;

/** A piece of a state message's text that is too long for one message; in order, the next numbers. */
export const partMessage = z.object({
  ...envelope,
  index: count,
  parts: z.number().int().positive(),
  kind: z.enum(["state", "dispatch"]),
  text: z.string(),
});
export type PartMessage = z.infer<typeof partMessage>;

/** The parent does not hold this guild: it may be loaded from the log when its next dispatch comes. */
export const coldMessage = z.object(envelope);
export type ColdMessage = z.infer<typeof coldMessage>;

/** A dispatch that came to the parent for a guild that has moved. */
export const dispatchMessage = z.object({
  ...envelope,
  session: z.string(),
  s: count,
  at: z.number(),
  d: z.object({ op: z.literal(0), t: z.string(), s: count, d: z.unknown() }),
});
export type DispatchMessage = z.infer<typeof dispatchMessage>;

/** All guilds have moved and the connection is closed: RESUME here. The claim's revision is to be replaced. */
export const goodbyeMessage = z.object({ ...envelope, session: sessionShape, claimRevision: count });
export type GoodbyeMessage = z.infer<typeof goodbyeMessage>;

export type HandoffKind = "state" | "part" | "cold" | "dispatch" | "goodbye";

/** What one worker's life asks of another, or tells it. */
export const ask = z.discriminatedUnion("ask", [
  /** May I hand you this shard? Answered once the receiver's socket is open, up to HELLO. */
  z.object({
    ask: z.literal("offer"),
    move: z.string().min(1),
    from: z.string(),
    shard: count,
    shardCount: z.number().int().positive(),
    session: sessionShape,
    bot: z.string(),
    stateVersion: z.number().int(),
  }),
  /** The giver takes it all back: drop what you have of this move. */
  z.object({ ask: z.literal("cancel"), move: z.string(), reason: z.string() }),
  /** Everything up to message `n` of the move is committed, up to `seen` has come; the newest pauses in ms. */
  z.object({
    ask: z.literal("committed"),
    move: z.string(),
    n: count,
    seen: count,
    pausesMs: z.array(z.number()),
  }),
  /** The session is RESUMEd here and the claim is mine. */
  z.object({ ask: z.literal("took"), move: z.string() }),
  /** The receiver gives up. */
  z.object({ ask: z.literal("failed"), move: z.string(), reason: z.string() }),
  /** Nothing of the giver's own work on the shard is left to do: the checkpoint may move past it. */
  z.object({ ask: z.literal("settled"), move: z.string() }),
  /** The operator: deploy new code (`dryRun`: only try it). */
  z.object({ ask: z.literal("hotboot"), dryRun: z.boolean() }),
  /** The operator: take everything back. */
  z.object({ ask: z.literal("abort") }),
  /** The child to its parent: here I am, and this is what I run. */
  z.object({
    ask: z.literal("hello"),
    life: z.string(),
    incarnation: z.string(),
    bot: z.string(),
    stateVersion: z.number().int(),
    version: z.string(),
    pid: count,
    host: z.string(),
  }),
  /** The child to its parent: my sockets are open. */
  z.object({ ask: z.literal("ready"), life: z.string() }),
  /** The parent to its child: everything is yours; take my place in the list, over this revision of it. */
  z.object({ ask: z.literal("place"), revision: count }),
  /** The parent to its child: hand back what you have, and go. `wanted`: this was all that was asked (a dry run). */
  z.object({ ask: z.literal("dismiss"), reason: z.string(), wanted: z.boolean() }),
]);
export type Ask = z.infer<typeof ask>;

export const answer = z.object({
  ok: z.boolean(),
  reason: z.string().optional(),
  /** Of a hello: the parent's shards, and what they have. */
  parent: z
    .object({
      life: z.string(),
      incarnation: z.string(),
      shardCount: z.number().int().positive(),
      shards: z.array(z.object({ shard: count, resumeUrl: z.string() })),
    })
    .optional(),
});
export type Answer = z.infer<typeof answer>;

/**
 * The giver of a shard.
 * - offered: asked; nothing has changed yet.
 * - moving: guilds go one by one, later dispatches of theirs are forwarded.
 * - closing: every guild has gone; the connection is closed resumably, what it had brought is forwarded.
 * - departing: goodbye is sent; waiting for the receiver's word that it has RESUMEd and claimed.
 * - gone: the receiver's.  - returned: taken back; guilds come from the log, what was not committed runs again.
 */
export type GiverStep = "offered" | "moving" | "closing" | "departing" | "gone" | "returned";
const giverSteps: Record<GiverStep, readonly GiverStep[]> = {
  offered: ["moving", "returned"],
  moving: ["closing", "returned"],
  closing: ["departing", "returned"],
  departing: ["gone", "returned"],
  gone: [],
  returned: [],
};

/**
 * The receiver of a shard.
 * - preparing: a socket is opened, up to HELLO.
 * - receiving: guilds and dispatches come.
 * - resuming: goodbye has come; the session is RESUMEd, the claim replaced.
 * - serving: ours.  - dropped: cancelled, or failed; nothing of it is kept.
 */
export type ReceiverStep = "preparing" | "receiving" | "resuming" | "serving" | "dropped";
const receiverSteps: Record<ReceiverStep, readonly ReceiverStep[]> = {
  preparing: ["receiving", "dropped"],
  receiving: ["resuming", "dropped"],
  resuming: ["serving", "dropped"],
  serving: [],
  dropped: [],
};

/**
 * The parent of a hotboot.
 * - spawning: the successor process is asked for.
 * - greeting: it has said hello; it opens its sockets.
 * - handing: shards move, one after the other.
 * - placing: all have moved; the child takes the place in the list.
 * - gone: this process has nothing left and ends.  - staying: not deployed; everything is as before.
 */
export type ParentStep = "spawning" | "greeting" | "handing" | "placing" | "gone" | "staying";
const parentSteps: Record<ParentStep, readonly ParentStep[]> = {
  spawning: ["greeting", "staying"],
  greeting: ["handing", "staying"],
  handing: ["placing", "staying"],
  placing: ["gone", "staying"],
  gone: [],
  staying: [],
};

/**
 * The child of a hotboot.
 * - hailing: it looks for its parent.
 * - opening: its sockets open, up to HELLO.
 * - taking: shards come.
 * - succeeding: all are here, or the parent is dead; it takes the parent's place in the list.
 * - serving: a worker like any other.  - dismissed: not wanted, or not needed any more; it ends.
 */
export type ChildStep = "hailing" | "opening" | "taking" | "succeeding" | "serving" | "dismissed";
const childSteps: Record<ChildStep, readonly ChildStep[]> = {
  hailing: ["opening", "dismissed"],
  opening: ["taking", "succeeding", "dismissed"],
  taking: ["succeeding", "dismissed"],
  succeeding: ["serving", "dismissed"],
  serving: [],
  dismissed: [],
};

const tables = {
  giver: giverSteps,
  receiver: receiverSteps,
  parent: parentSteps,
  child: childSteps,
} as const;

interface StepOf {
  giver: GiverStep;
  receiver: ReceiverStep;
  parent: ParentStep;
  child: ChildStep;
}
export type HandoffRole = keyof StepOf;

/** Every step of every role, as `role:step`: for tests that stop a process at each. */
export const allHandoffSteps: readonly string[] = Object.entries(tables).flatMap(([role, steps]) =>
  Object.keys(steps).map((step) => `${role}:${step}`),
);

/** The next step of a role; anything but a legal one is a bug of ours. */
export function nextStep<R extends HandoffRole>(role: R, from: StepOf[R], to: StepOf[R]): StepOf[R] {
  const table = tables[role] as unknown as Record<StepOf[R], readonly StepOf[R][]>;
  assert(table[from].includes(to), `${role} ${from} -> ${to}`);
  return to;
}
