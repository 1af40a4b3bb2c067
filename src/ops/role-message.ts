/**
 * Owns what a supervised role says to its supervisor (the launcher, or `guildstream start`) over their channel, and
 * what it hears. Spoken in cli/lifetime.ts and cli/successor.ts, heard in generations.ts.
 *
 * The supervisor stays while the code of its roles changes: a newer generation may say what an older supervisor has
 * never heard of. So whatever is unknown is passed over, on both sides, and messages only ever gain optional fields.
 */
export type RoleMessage =
  | { type: "ready"; url?: string }
  | { type: "error"; code: string; message: string; hint?: string | undefined }
  /** Asks for the successor; `id` is what that is to know this process by, its `--hotboot <id>`. */
  | { type: "spawnNext"; id: string };

/** Why no successor was started. */
export const refusals = ["STOPPING", "NEXT_ALIVE", "PREVIOUS_ALIVE", "SPAWN_FAILED"] as const;
export type Refusal = (typeof refusals)[number];

export type SupervisorMessage =
  | { type: "nextSpawned"; generation: number; pid: number }
  | { type: "nextReady"; generation: number }
  /** Also when it ended before it could speak to anybody. */
  | { type: "nextEnded"; generation: number; code: number | null; signal: string | null }
  | { type: "nextRefused"; reason: Refusal; message: string };

/** What a successor may be told to know its predecessor by: nothing that could be taken for a flag. */
export function isGenerationId(id: unknown): id is string {
  return typeof id === "string" && /^\w[\w.-]{0,127}$/.test(id);
}

/** Checks by hand: the launcher loads no schema library. Undefined: not a message, or one of a newer version. */
export function parseRoleMessage(value: unknown): RoleMessage | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const { type, url, code, message, hint, id } = value as Record<string, unknown>;
  switch (type) {
    case "ready":
      return typeof url === "string" ? { type, url } : { type };
    case "error":
      if (typeof code !== "string" || typeof message !== "string") return undefined;
      return { type, code, message, ...(typeof hint === "string" ? { hint } : {}) };
    case "spawnNext":
      return isGenerationId(id) ? { type, id } : undefined;
    default:
      return undefined;
  }
}
