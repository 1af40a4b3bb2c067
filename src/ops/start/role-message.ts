/** Owns what a supervised role says to its supervisor over their channel. Spoken in cli/lifetime.ts, heard in child.ts. */
export type RoleMessage =
  | { type: "ready"; url?: string }
  | { type: "error"; code: string; message: string; hint?: string | undefined };
