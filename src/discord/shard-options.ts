/**
 * Owns what a shard is given and what it reports. Read by shard.ts and by whoever makes one.
 */
import type { GatewayDispatchPayload, GatewayReadyDispatchData } from "discord-api-types/v10";
import type { Logger } from "../core/bot.js";
import type { GuildstreamError } from "../core/errors.js";
import type { SessionInfo } from "./session.js";

/** Gives leave to IDENTIFY: the cluster's budget. Rejects with a GuildstreamError when there is none left. */
export interface IdentifyThrottler {
  waitForIdentify(shardId: number, signal: AbortSignal): Promise<void>;
}

/** What became of the session. */
export type SessionEvent =
  | { kind: "ready"; session: SessionInfo; data: GatewayReadyDispatchData }
  | { kind: "resumed"; session: SessionInfo; replayed: number }
  | { kind: "disconnected"; code: number | undefined; reason: string }
  | { kind: "invalidated"; session: SessionInfo; reason: string };

export type ShardState =
  | "idle"
  | "preparing"
  | "prepared"
  | "connecting"
  | "ready"
  | "waiting"
  | "paused"
  | "barred"
  | "closed"
  | "failed";

export interface ShardOptions {
  shardId: number;
  shardCount: number;
  token: string;
  intents: number;
  /** Where to connect without a session; see DiscordRest. */
  rest: { gatewayUrl(): Promise<string> };
  /** Resume this one (a checkpoint, a handoff); one of another shard count is of no use. */
  session: SessionInfo | null;
  /**
   * Refused: while the shard's session is (or may be) in other hands a second one would bring every dispatch twice.
   * Without a session the shard is then barred. Default: allowed.
   */
  identify?: "allowed" | "refused";
  throttler: IdentifyThrottler;
  /**
   * Takes a dispatch, READY and RESUMED among them. `false` means full: the dispatch counts as not received and the
   * shard pauses. `replayed`: it came between RESUME and RESUMED, so it may be old. Must not throw.
   */
  onDispatch(payload: GatewayDispatchPayload, sessionId: string, replayed: boolean): boolean;
  onSession(event: SessionEvent): void;
  /** The shard has failed for good: a wrong token, an intent that is not granted, no identifies left. */
  onFatal(error: GuildstreamError): void;
  log: Logger;
  /** zlib-stream: less to receive for more to compute. Off by default. */
  compress?: boolean;
}
