/**
 * Owns what Discord's gateway close codes mean for a shard (Opcodes and Status Codes, "Gateway Close Event Codes"):
 * which are final, which end only the session. All others: reconnect and RESUME.
 */
import { GatewayCloseCodes } from "discord-api-types/v10";
import { GuildstreamError } from "../core/errors.js";

/** Whether the next connection has to IDENTIFY. */
export function endsSession(code: number): boolean {
  return code === GatewayCloseCodes.InvalidSeq || code === GatewayCloseCodes.SessionTimedOut;
}

const portal = "https://discord.com/developers/applications";

/** The error behind a close code after which Discord wants no reconnect; undefined for all others. */
export function closeCodeError(code: number, intents: number): GuildstreamError | undefined {
  switch (code) {
    case GatewayCloseCodes.AuthenticationFailed:
      return tokenInvalid();
    case GatewayCloseCodes.InvalidShard:
      return closed(
        code,
        "the shard's number or count is not valid",
        "start all workers with one --shards value",
      );
    case GatewayCloseCodes.ShardingRequired:
      return closed(code, "the bot is in too many guilds for one shard", "raise the shard count (--shards)");
    case GatewayCloseCodes.InvalidAPIVersion:
      return closed(code, "Discord no longer speaks gateway version 10", "update guildstream");
    case GatewayCloseCodes.InvalidIntents:
      return closed(code, `the intents ${intents} are not valid`, "combine GatewayIntentBits with |");
    case GatewayCloseCodes.DisallowedIntents:
      return closed(
        code,
        "the bot asks for a privileged intent that is not enabled for it",
        `enable Server Members, Message Content or Presence under "Bot" on ${portal}, or ask for less in intents`,
      );
    default:
      return undefined;
  }
}

/** Discord does not know the token. */
export function tokenInvalid(cause?: unknown): GuildstreamError {
  return new GuildstreamError("DISCORD_TOKEN_INVALID", "Discord refuses the bot's token", {
    cause,
    hint: `copy it again from "Bot" on ${portal} into DISCORD_TOKEN; a token that was reset is void`,
  });
}

function closed(code: number, what: string, hint: string): GuildstreamError {
  return new GuildstreamError("GATEWAY_CLOSED", `Discord closed the gateway with ${code}: ${what}`, { hint });
}
