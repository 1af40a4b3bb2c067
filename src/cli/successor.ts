/**
 * Owns asking for this process's successor: the supervisor (the launcher, or `guildstream start`) starts the same
 * command from disk again, and tells here what becomes of it. Used by a role's `hotboot` (lifetime.ts).
 *
 * If the supervisor dies meanwhile, this process drains (lifetime.ts) and so does the successor.
 */
import { z } from "zod";
import { assert, GuildstreamError, never } from "../core/errors.js";
import { isGenerationId, refusals, type SupervisorMessage } from "../ops/role-message.js";
import { isSupervised, tellSupervisor } from "./lifetime.js";

export interface Successor {
  generation: number;
  pid: number;
  /** Resolves when it says that it is ready. */
  ready: Promise<void>;
  /** Resolves when its process has ended, perhaps before it could say a word. */
  ended: Promise<{ code: number | null; signal: string | null }>;
}

/** Counts from 1; undefined where nobody could start a successor. */
export const generation: number | undefined = isSupervised
  ? Number(process.env.GUILDSTREAM_GENERATION) || undefined
  : undefined;

const number = z.number().int().positive();
const messageSchema: z.ZodType<SupervisorMessage> = z.discriminatedUnion("type", [
  z.object({ type: z.literal("nextSpawned"), generation: number, pid: number }),
  z.object({ type: z.literal("nextReady"), generation: number }),
  z.object({
    type: z.literal("nextEnded"),
    generation: number,
    code: z.number().int().nullable(),
    signal: z.string().nullable(),
  }),
  z.object({ type: z.literal("nextRefused"), reason: z.enum(refusals), message: z.string() }),
]);

/** The supervisor answers requests in their order, so there is one at a time. */
let isAsking = false;

/**
 * Starts the successor. Rejects with HOTBOOT_REFUSED when there is to be none.
 * @param id what the successor is to know this process by: it is started with `--hotboot <id>`.
 */
export async function spawnNext(id: string): Promise<Successor> {
  if (generation === undefined) throw refused("nobody stays that could start a successor");
  assert(isGenerationId(id), `an id for the command line: ${id}`);
  assert(!isAsking, "one successor is asked for at a time");
  isAsking = true;
  try {
    return await ask(id);
  } finally {
    isAsking = false;
  }
}

function ask(id: string): Promise<Successor> {
  let becomeReady!: () => void;
  let end!: (how: Awaited<Successor["ended"]>) => void;
  const ready = new Promise<void>((resolve) => {
    becomeReady = resolve;
  });
  const ended: Successor["ended"] = new Promise((resolve) => {
    end = resolve;
  });
  return new Promise((resolve, reject) => {
    let spawned: number | undefined;
    const leave = (): void => {
      process.off("message", hear);
      process.off("disconnect", onGone);
    };
    const onGone = (): void => {
      leave();
      reject(refused("the launcher is gone"));
    };
    const hear = (value: unknown): void => {
      const { data: message } = messageSchema.safeParse(value);
      if (message === undefined) return; // Of a newer supervisor, or of somebody else on this channel.
      switch (message.type) {
        case "nextSpawned":
          if (spawned !== undefined) break; // The answer to a later request.
          spawned = message.generation;
          resolve({ generation: spawned, pid: message.pid, ready, ended });
          break;
        case "nextRefused":
          if (spawned !== undefined) break;
          leave();
          reject(refused(`${message.reason}: ${message.message}`));
          break;
        case "nextReady":
          if (message.generation === spawned) becomeReady();
          break;
        case "nextEnded":
          if (message.generation !== spawned) break;
          leave();
          end({ code: message.code, signal: message.signal });
          break;
        default:
          never(message);
      }
    };
    process.on("message", hear);
    process.once("disconnect", onGone);
    tellSupervisor({ type: "spawnNext", id });
  });
}

function refused(why: string): GuildstreamError {
  return new GuildstreamError("HOTBOOT_REFUSED", `no successor was started: ${why}`, {
    hint: "a worker under `npm run worker` (without --no-launcher) or `npm start` may ask while it is the only generation",
  });
}
