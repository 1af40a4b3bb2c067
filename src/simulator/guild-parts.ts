/**
 * The seeded parts of a guild as nobody has changed them: channels, roles, members, settings.
 *
 * Pure functions of (seed, guild index); nothing is kept. Ids lie in the guild's own id range: low
 * bits 0 is the guild and @everyone, then the channels, then the roles. Used by world.ts, which
 * lays the changes of traffic over them.
 */
import {
  type APIGuildMember,
  type APIRole,
  type ChannelFlags,
  ChannelType,
  type GatewayGuildCreateDispatchData,
  type GuildMemberFlags,
  type RoleFlags,
} from "discord-api-types/v10";
import { GUILD_SHAPE } from "./limits.js";
import { accountCreatedAtMs, makeUser } from "./people.js";
import { fraction, hexHash, mix } from "./random.js";
import { createdAtMs, joinId } from "./snowflake.js";

/** A channel as GUILD_CREATE holds it. */
export type GuildChannel = GatewayGuildCreateDispatchData["channels"][number];

/** What every part needs to know of its guild. */
export interface GuildSeed {
  readonly seed: number;
  /** Place in the world, 0 to guilds - 1. */
  readonly index: number;
  /** Milliseconds since Discord's epoch: the upper bits of the guild's id and of all its parts. */
  readonly sinceEpochMs: number;
  /** The guild's id cut in two, so that ids of its parts need no 64-bit arithmetic (see `partId`). */
  readonly idHead: string;
  readonly idTail: number;
}

/** Decimal digits in `idTail`. */
const TAIL_DIGITS = 7;
const TAIL_MODULUS = 10 ** TAIL_DIGITS;

export function makeGuildSeed(seed: number, index: number, sinceEpochMs: number): GuildSeed {
  const id = joinId(sinceEpochMs, 0);
  const idHead = id.slice(0, -TAIL_DIGITS);
  return { seed, index, sinceEpochMs, idHead, idTail: Number(id.slice(-TAIL_DIGITS)) };
}

/** The id of the guild's part with these low bits; made for every dispatch, so it is worth being quick. */
function partId(guild: GuildSeed, low: number): string {
  const tail = guild.idTail + low;
  if (tail >= TAIL_MODULUS) return joinId(guild.sinceEpochMs, low);
  return guild.idHead + String(tail).padStart(TAIL_DIGITS, "0");
}

const FIRST_CHANNEL = 1;
const FIRST_ROLE = 101;
const VIEW_AND_SEND = "2248473465835073";

const TOPICS = ["general", "memes", "help", "music", "art", "gaming", "news", "pets", "food", "books"];
const ROLE_NAMES = ["member", "regular", "artist", "gamer", "helper", "events", "supporter", "moderator"];

export function guildId(guild: GuildSeed): string {
  return partId(guild, 0);
}

export function channelId(guild: GuildSeed, number: number): string {
  return partId(guild, FIRST_CHANNEL + number);
}

/** The role at a number; 0 is @everyone, whose id is the guild's. */
export function roleId(guild: GuildSeed, number: number): string {
  return partId(guild, number === 0 ? 0 : FIRST_ROLE + number);
}

/** Number of the channel whose low id bits these are, or -1. */
export function channelNumber(low: number): number {
  const number = low - FIRST_CHANNEL;
  return number >= 0 && number < GUILD_SHAPE.channels ? number : -1;
}

/** Categories come first, voice channels last, text channels between. */
export function isTextChannel(number: number): boolean {
  return number >= GUILD_SHAPE.categories && number < GUILD_SHAPE.channels - GUILD_SHAPE.voiceChannels;
}

export function makeChannel(guild: GuildSeed, number: number): GuildChannel {
  const hash = mix(guild.seed, guild.index, number, 21);
  const name = `${TOPICS[hash % TOPICS.length]}-${number}`;
  // Written out without spreads: a start-up makes tens of thousands of these.
  if (number < GUILD_SHAPE.categories) {
    return {
      id: channelId(guild, number),
      type: ChannelType.GuildCategory,
      name,
      position: number,
      flags: 0 as ChannelFlags,
      permission_overwrites: [],
      parent_id: null,
    };
  }
  if (!isTextChannel(number)) {
    return {
      id: channelId(guild, number),
      type: ChannelType.GuildVoice,
      name,
      position: number,
      flags: 0 as ChannelFlags,
      permission_overwrites: [],
      parent_id: channelId(guild, number % GUILD_SHAPE.categories),
      bitrate: 64_000,
      user_limit: 0,
      rtc_region: null,
      rate_limit_per_user: 0,
      nsfw: false,
      last_message_id: null,
    };
  }
  return {
    id: channelId(guild, number),
    type: number === GUILD_SHAPE.categories ? ChannelType.GuildAnnouncement : ChannelType.GuildText,
    name,
    position: number,
    flags: 0 as ChannelFlags,
    permission_overwrites: [],
    parent_id: channelId(guild, number % GUILD_SHAPE.categories),
    topic: hash >>> 31 === 1 ? `All about ${name}` : null,
    nsfw: false,
    rate_limit_per_user: 0,
    last_message_id: null,
    last_pin_timestamp: null,
  };
}

export function makeRole(guild: GuildSeed, number: number, applicationId: string): APIRole {
  const color = number === 0 ? 0 : mix(guild.seed, guild.index, number, 31) & 0xffffff;
  const role: APIRole = {
    id: roleId(guild, number),
    name: number === 0 ? "@everyone" : `${ROLE_NAMES[number % ROLE_NAMES.length]}-${number}`,
    color,
    colors: { primary_color: color, secondary_color: null, tertiary_color: null },
    hoist: number > 0 && number % 5 === 0,
    icon: null,
    unicode_emoji: null,
    position: number,
    permissions: VIEW_AND_SEND,
    managed: number === 1,
    mentionable: number % 3 === 0,
    flags: 0 as RoleFlags,
  };
  // Role 1 is the one Discord makes for the bot itself.
  return number === 1 ? { ...role, name: "simulated-bot", tags: { bot_id: applicationId } } : role;
}

/** The membership of the pool's user in the guild, before traffic changed it. */
export function makeMember(guild: GuildSeed, userIndex: number): APIGuildMember {
  const hash = mix(guild.seed, guild.index, userIndex, 41);
  const roles: string[] = [];
  for (let part = 0; part < hash % 4; part++) {
    const id = roleId(guild, 2 + ((hash >>> (part * 6 + 4)) % (GUILD_SHAPE.roles - 2)));
    if (!roles.includes(id)) roles.push(id);
  }
  const firstMs = Math.max(createdAtMs(guild.sinceEpochMs), accountCreatedAtMs(userIndex));
  return {
    user: makeUser(guild.seed, userIndex),
    nick: hash % 5 === 0 ? `nick-${hash % 9_973}` : null,
    avatar: null,
    banner: null,
    roles,
    joined_at: new Date(firstMs + (hash % 100_000_000)).toISOString(),
    premium_since: null,
    deaf: false,
    mute: false,
    pending: false,
    communication_disabled_until: null,
    flags: 0 as GuildMemberFlags,
  };
}

/** The settings of a guild: all of GUILD_CREATE but the lists. */
export function makeSettings(guild: GuildSeed, ownerId: string, memberCount: number) {
  const { seed, index } = guild;
  return {
    id: guildId(guild),
    name: `${TOPICS[mix(seed, index, 51) % TOPICS.length]} place ${index}`,
    icon: fraction(seed, index, 52) < 0.8 ? hexHash(4, seed, index, 53) : null,
    splash: null,
    discovery_splash: null,
    owner_id: ownerId,
    region: "deprecated",
    afk_channel_id: null,
    afk_timeout: 300,
    verification_level: mix(seed, index, 54) % 4,
    default_message_notifications: mix(seed, index, 55) % 2,
    explicit_content_filter: 2,
    emojis: [],
    features: fraction(seed, index, 56) < 0.3 ? ["COMMUNITY", "NEWS"] : [],
    mfa_level: 0,
    application_id: null,
    system_channel_id: channelId(guild, GUILD_SHAPE.categories + 1),
    system_channel_flags: 0,
    rules_channel_id: null,
    max_presences: null,
    max_members: 25_000_000,
    vanity_url_code: null,
    description: null,
    banner: null,
    premium_tier: mix(seed, index, 57) % 4,
    premium_subscription_count: mix(seed, index, 58) % 15,
    preferred_locale: "en-US",
    public_updates_channel_id: null,
    max_video_channel_users: 25,
    max_stage_video_channel_users: 50,
    nsfw_level: 0,
    nsfw: false,
    stickers: [],
    premium_progress_bar_enabled: false,
    hub_type: null,
    safety_alerts_channel_id: null,
    incidents_data: null,
    large: memberCount > 250,
    member_count: memberCount,
    joined_at: new Date(createdAtMs(guild.sinceEpochMs) + 86_400_000).toISOString(),
  };
}
