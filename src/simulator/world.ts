/**
 * The world: which guilds there are, who is in them, and what traffic has changed in them.
 *
 * Seeded parts are made when asked for and never kept (20,000 guilds cost a few megabytes); only
 * changes are kept, per guild, so that a later GUILD_CREATE or REST read shows what the dispatches
 * told. Used by traffic (to change), gateway and REST (to read).
 */
import type {
  APIGuildMember,
  APIRole,
  APIUser,
  GatewayGuildCreateDispatchData,
  UserFlags,
} from "discord-api-types/v10";
import {
  channelId,
  channelNumber,
  type GuildChannel,
  type GuildSeed,
  guildId,
  makeChannel,
  makeGuildSeed,
  makeMember,
  makeRole,
  makeSettings,
  roleId,
} from "./guild-parts.js";
import { GUILD_SHAPE } from "./limits.js";
import { indexOfUser, makeUser } from "./people.js";
import { fraction, mix } from "./random.js";
import { sinceDiscordEpochMs, splitId } from "./snowflake.js";

/** Whether the bot sees a guild: joined, left (removed from it), or in an outage. */
export type GuildStatus = "joined" | "left" | "outage";

/** What traffic changed in one guild; null marks a deleted object. */
interface Changes {
  readonly channels: Map<string, GuildChannel | null>;
  readonly roles: Map<string, APIRole | null>;
  readonly members: Map<number, APIGuildMember>;
  readonly voice: Map<number, string>;
  readonly createdChannels: string[];
  readonly createdRoles: string[];
}

export interface WorldOptions {
  readonly seed: number;
  readonly guilds: number;
  readonly applicationId: string;
}

const FIRST_GUILD_MS = sinceDiscordEpochMs(Date.UTC(2016, 0, 1));

/** The guilds of the simulation, addressed by index 0 to size - 1. */
export class World {
  readonly size: number;
  readonly botUser: APIUser;
  /** Users there are; larger than the largest guild, so that nobody is in a guild twice. */
  readonly userPool: number;
  readonly #seeds: GuildSeed[] = [];
  readonly #byMs = new Map<number, number>();
  readonly #status = new Map<number, GuildStatus>();
  readonly #changes = new Map<number, Changes>();
  readonly #createdChannels = new Map<string, number>();
  readonly #options: WorldOptions;

  constructor(options: WorldOptions) {
    this.#options = options;
    this.size = options.guilds;
    this.userPool = Math.max(2 * GUILD_SHAPE.membersMax, options.guilds * 4);
    this.botUser = {
      id: options.applicationId,
      username: "simulated-bot",
      discriminator: "0000",
      global_name: null,
      avatar: null,
      bot: true,
      mfa_enabled: true,
      verified: true,
      flags: 0 as UserFlags,
    };
    let sinceEpochMs = FIRST_GUILD_MS;
    for (let index = 0; index < options.guilds; index++) {
      // Random gaps, so that shards get their guilds as by chance, not in turn.
      sinceEpochMs += 1 + (mix(options.seed, index, 61) % 60_000);
      this.#seeds.push(makeGuildSeed(options.seed, index, sinceEpochMs));
      this.#byMs.set(sinceEpochMs, index);
    }
  }

  /** The upper bits of the guild's id, of which the shard is made: `sinceEpochMs % shard count`. */
  sinceEpochMs(guild: number): number {
    return this.seedOf(guild).sinceEpochMs;
  }

  seedOf(guild: number): GuildSeed {
    const seed = this.#seeds[guild];
    if (seed === undefined) throw new RangeError(`no guild at index ${guild}`);
    return seed;
  }

  guildId(guild: number): string {
    return guildId(this.seedOf(guild));
  }

  /** The index of the guild with this id, or -1. */
  guildIndex(id: string): number {
    const parts = splitId(id);
    return parts === null || parts.low !== 0 ? -1 : (this.#byMs.get(parts.sinceEpochMs) ?? -1);
  }

  status(guild: number): GuildStatus {
    return this.#status.get(guild) ?? "joined";
  }

  setStatus(guild: number, status: GuildStatus): void {
    if (status === "joined") this.#status.delete(guild);
    else this.#status.set(guild, status);
  }

  memberCount(guild: number): number {
    const luck = fraction(this.#options.seed, guild, 71);
    const { membersMin, membersMax } = GUILD_SHAPE;
    return Math.floor(membersMin * (membersMax / membersMin) ** (luck * luck));
  }

  /** The user (pool index) who is the n-th member of the guild; member 0 owns it. */
  memberAt(guild: number, number: number): number {
    return (this.#firstMember(guild) + number) % this.userPool;
  }

  isMember(guild: number, user: number): boolean {
    return (user - this.#firstMember(guild) + this.userPool) % this.userPool < this.memberCount(guild);
  }

  member(guild: number, user: number): APIGuildMember {
    return this.#changes.get(guild)?.members.get(user) ?? makeMember(this.seedOf(guild), user);
  }

  botMember(guild: number): APIGuildMember {
    return { ...this.member(guild, 0), user: this.botUser, nick: null, roles: [this.roleId(guild, 1)] };
  }

  user(index: number): APIUser {
    return makeUser(this.#options.seed, index);
  }

  userIndex(id: string): number {
    return indexOfUser(id, this.userPool, 0);
  }

  /** The guild a channel id belongs to and the channel, or null if there is none such. */
  findChannel(id: string): { guild: number; channel: GuildChannel } | null {
    const parts = splitId(id);
    if (parts === null) return null;
    const guild = this.#byMs.get(parts.sinceEpochMs) ?? this.#createdChannels.get(id);
    if (guild === undefined) return null;
    const changed = this.#changes.get(guild)?.channels.get(id);
    if (changed !== undefined) return changed === null ? null : { guild, channel: changed };
    const number = channelNumber(parts.low);
    return number < 0 ? null : { guild, channel: makeChannel(this.seedOf(guild), number) };
  }

  channel(guild: number, number: number): GuildChannel {
    const changed = this.#changes.get(guild)?.channels.get(this.channelId(guild, number));
    return changed ?? makeChannel(this.seedOf(guild), number);
  }

  channelId(guild: number, number: number): string {
    return channelId(this.seedOf(guild), number);
  }

  roleId(guild: number, number: number): string {
    return roleId(this.seedOf(guild), number);
  }

  channels(guild: number): GuildChannel[] {
    const seeded = Array.from({ length: GUILD_SHAPE.channels }, (_, number) => this.channel(guild, number));
    const changes = this.#changes.get(guild);
    const created = changes?.createdChannels.map((id) => changes.channels.get(id)) ?? [];
    return [...seeded, ...created.filter((channel) => channel != null)];
  }

  role(guild: number, number: number): APIRole {
    const changed = this.#changes.get(guild)?.roles.get(this.roleId(guild, number));
    return changed ?? makeRole(this.seedOf(guild), number, this.#options.applicationId);
  }

  roles(guild: number): APIRole[] {
    const seeded = Array.from({ length: GUILD_SHAPE.roles }, (_, number) => this.role(guild, number));
    const changes = this.#changes.get(guild);
    const created = changes?.createdRoles.map((id) => changes.roles.get(id)) ?? [];
    return [...seeded, ...created.filter((role) => role != null)];
  }

  voiceStates(guild: number): GatewayGuildCreateDispatchData["voice_states"] {
    return [...(this.#changes.get(guild)?.voice ?? [])].map(([user, channel_id]) => ({
      channel_id,
      user_id: this.user(user).id,
      session_id: mix(this.#options.seed, user, 81).toString(16),
      deaf: false,
      mute: false,
      self_deaf: false,
      self_mute: false,
      self_video: false,
      suppress: false,
      request_to_speak_timestamp: null,
    }));
  }

  /**
   * The GUILD_CREATE of a guild as it is now.
   *
   * @param members how many members to include beside the bot and those in voice: Discord sends
   * more only to bots with the GUILD_PRESENCES intent (Gateway Events, "Guild Create").
   */
  guildCreate(guild: number, members = 0): GatewayGuildCreateDispatchData {
    const owner = this.user(this.memberAt(guild, 0)).id;
    const shown = new Set(this.#changes.get(guild)?.voice.keys());
    for (let n = 0; n < Math.min(members, this.memberCount(guild)); n++) shown.add(this.memberAt(guild, n));
    const created = {
      ...makeSettings(this.seedOf(guild), owner, this.memberCount(guild)),
      unavailable: false,
      roles: this.roles(guild),
      channels: this.channels(guild),
      threads: [],
      members: [this.botMember(guild), ...[...shown].map((user) => this.member(guild, user))],
      voice_states: this.voiceStates(guild),
      presences: [],
      stage_instances: [],
      guild_scheduled_events: [],
      soundboard_sounds: [],
    };
    // Numbers of settings are seeded, which is wider than the enums they belong to.
    return created as unknown as GatewayGuildCreateDispatchData;
  }

  createdChannels(guild: number): readonly string[] {
    return this.#changes.get(guild)?.createdChannels ?? [];
  }

  createdRoles(guild: number): readonly string[] {
    return this.#changes.get(guild)?.createdRoles ?? [];
  }

  /** Stores a new or changed channel. */
  putChannel(guild: number, channel: GuildChannel): void {
    if (this.findChannel(channel.id) === null) {
      this.#change(guild).createdChannels.push(channel.id);
      this.#createdChannels.set(channel.id, guild);
    }
    this.#change(guild).channels.set(channel.id, channel);
  }

  /** Removes a channel that traffic created; seeded ones stay. */
  removeCreatedChannel(guild: number, id: string): void {
    const changes = this.#change(guild);
    changes.createdChannels.splice(changes.createdChannels.indexOf(id), 1);
    changes.channels.delete(id);
    this.#createdChannels.delete(id);
  }

  /** Stores a new or changed role. */
  putRole(guild: number, role: APIRole, created: boolean): void {
    if (created) this.#change(guild).createdRoles.push(role.id);
    this.#change(guild).roles.set(role.id, role);
  }

  /** Removes a role that traffic created; seeded ones stay. */
  removeCreatedRole(guild: number, id: string): void {
    const changes = this.#change(guild);
    changes.createdRoles.splice(changes.createdRoles.indexOf(id), 1);
    changes.roles.delete(id);
  }

  putMember(guild: number, user: number, member: APIGuildMember): void {
    this.#change(guild).members.set(user, member);
  }

  /** Moves a member into a voice channel, or out of voice with null. */
  setVoice(guild: number, user: number, channel: string | null): void {
    if (channel === null) this.#change(guild).voice.delete(user);
    else this.#change(guild).voice.set(user, channel);
  }

  voiceMembers(guild: number): number[] {
    return [...(this.#changes.get(guild)?.voice.keys() ?? [])];
  }

  #firstMember(guild: number): number {
    return mix(this.#options.seed, guild, 72) % this.userPool;
  }

  #change(guild: number): Changes {
    let changes = this.#changes.get(guild);
    if (changes === undefined) {
      changes = {
        channels: new Map(),
        roles: new Map(),
        members: new Map(),
        voice: new Map(),
        createdChannels: [],
        createdRoles: [],
      };
      this.#changes.set(guild, changes);
    }
    return changes;
  }
}
