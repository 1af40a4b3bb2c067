/**
 * Which intent lets a dispatch through (Gateway, "List of Intents"), and which bits exist.
 *
 * Used by sessions to filter, by the gateway to check IDENTIFY (4013, 4014).
 */
import { GatewayIntentBits as Bits } from "discord-api-types/v10";

const GUILD_INTENTS: Record<string, number> = {
  MESSAGE_CREATE: Bits.GuildMessages,
  MESSAGE_UPDATE: Bits.GuildMessages,
  MESSAGE_DELETE: Bits.GuildMessages,
  MESSAGE_DELETE_BULK: Bits.GuildMessages,
  MESSAGE_REACTION_ADD: Bits.GuildMessageReactions,
  MESSAGE_REACTION_REMOVE: Bits.GuildMessageReactions,
  TYPING_START: Bits.GuildMessageTyping,
  VOICE_STATE_UPDATE: Bits.GuildVoiceStates,
  GUILD_MEMBER_ADD: Bits.GuildMembers,
  GUILD_MEMBER_UPDATE: Bits.GuildMembers,
  GUILD_MEMBER_REMOVE: Bits.GuildMembers,
  PRESENCE_UPDATE: Bits.GuildPresences,
  GUILD_BAN_ADD: Bits.GuildModeration,
  GUILD_BAN_REMOVE: Bits.GuildModeration,
  GUILD_AUDIT_LOG_ENTRY_CREATE: Bits.GuildModeration,
  GUILD_EMOJIS_UPDATE: Bits.GuildExpressions,
  GUILD_STICKERS_UPDATE: Bits.GuildExpressions,
  INVITE_CREATE: Bits.GuildInvites,
  INVITE_DELETE: Bits.GuildInvites,
  WEBHOOKS_UPDATE: Bits.GuildWebhooks,
};

const DM_INTENTS: Record<string, number> = {
  MESSAGE_CREATE: Bits.DirectMessages,
  MESSAGE_UPDATE: Bits.DirectMessages,
  MESSAGE_DELETE: Bits.DirectMessages,
  MESSAGE_REACTION_ADD: Bits.DirectMessageReactions,
  MESSAGE_REACTION_REMOVE: Bits.DirectMessageReactions,
  TYPING_START: Bits.DirectMessageTyping,
};

const GUILDS_PREFIX = /^(GUILD|CHANNEL|THREAD|STAGE_INSTANCE)_/;

/** The bits of which a session needs one to get this dispatch; 0 means everyone gets it. */
export function requiredIntents(t: string, dm: boolean): number {
  const known = (dm ? DM_INTENTS : GUILD_INTENTS)[t];
  if (known !== undefined) return known;
  return GUILDS_PREFIX.test(t) ? Bits.Guilds : 0;
}

/** Dispatches whose text fields are blank without MESSAGE_CONTENT. */
export function carriesContent(t: string): boolean {
  return t === "MESSAGE_CREATE" || t === "MESSAGE_UPDATE";
}

/** Every bit that is an intent; others are refused with 4013. */
export const ALL_INTENTS: number = Object.values(Bits)
  .filter((bit) => typeof bit === "number")
  .reduce((all, bit) => all | bit, 0);
