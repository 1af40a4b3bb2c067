/**
 * Owns what is known of a gateway session: the shape in which it is stored and handed over, and the library's object
 * of it, one for as long as the session lives (the library reads it at every dispatch).
 *
 * Invariant: `library.sequence` is the last dispatch that was taken; `resumeUrl` is Discord's own, while
 * `library.resumeURL` is where the current attempt goes. Made and written by shard.ts.
 */
import type { SessionInfo as LibrarySession } from "@discordjs/ws";
import type { SessionEntry } from "../core/members.js";

/** What is needed to RESUME: the shape of a checkpoint. */
export type SessionInfo = Omit<SessionEntry, "at">;

export class Session {
  constructor(
    readonly library: LibrarySession,
    readonly resumeUrl: string,
  ) {}

  static of(info: SessionInfo, shardId: number): Session {
    const { sessionId, resumeUrl, s, shardCount } = info;
    return new Session({ sessionId, resumeURL: resumeUrl, sequence: s, shardCount, shardId }, resumeUrl);
  }

  /** The session as a RESUME would use it now. */
  get info(): SessionInfo {
    const { sessionId, sequence, shardCount } = this.library;
    return { sessionId, resumeUrl: this.resumeUrl, s: sequence, shardCount };
  }
}

export function isGatewayUrl(text: string | undefined): text is string {
  return text !== undefined && /^wss?:\/\//.test(text) && URL.canParse(text);
}

/** Whether both lead to the same gateway host: a session is RESUMEd where Discord asked for it. */
export function isSameGateway(one: string | undefined, other: string | undefined): boolean {
  return isGatewayUrl(one) && isGatewayUrl(other) && new URL(one).origin === new URL(other).origin;
}
