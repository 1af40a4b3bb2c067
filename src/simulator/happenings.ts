/**
 * What users do in the world: one function per kind of happening, each making one dispatch.
 *
 * All choices come from the given `Random`, so the same seed makes the same happenings; only ids and
 * times are of the clock. Changes are stored in the world before they are dispatched. Used by traffic.ts.
 */
import {
  type APIGuildMember,
  type APIMessage,
  type APIRole,
  ChannelType,
  type GatewayMessageCreateDispatchData,
  type MessageFlags,
} from "discord-api-types/v10";
import { randomCommand, sendInteraction } from "./interaction-payload.js";
import { GUILD_SHAPE, LIMITS } from "./limits.js";
import { dmChannelId } from "./people.js";
import type { Random } from "./random.js";
import { DIRECT_MESSAGES, type Simulation } from "./simulation.js";
import { freshId } from "./snowflake.js";

const WORDS =
  "the you that was for are with this have from one what all were when there can more if out so up said its about than into them only other new some could time these two may then first any now people over like".split(
    " ",
  );

/** A happening in a guild; returns whether a session got the dispatch. */
type Happening = (simulation: Simulation, guild: number, random: Random) => boolean;

const message: Happening = (simulation, guild, random) => {
  const { world } = simulation;
  const { user: author, ...member } = speaker(simulation, guild, random);
  const mentions = random.next() < 0.08 ? [speaker(simulation, guild, random)] : [];
  const payload: GatewayMessageCreateDispatchData = {
    ...baseMessage(textChannel(simulation, guild, random), sentence(random)),
    author,
    member,
    guild_id: world.guildId(guild),
    mentions: mentions.map(({ user, ...mentioned }) => ({ ...user, member: mentioned })),
  };
  return simulation.dispatch(guild, "MESSAGE_CREATE", payload);
};

/** A direct message to the bot: no guild, shard 0. */
export function directMessage(simulation: Simulation, random: Random): boolean {
  const user = random.below(simulation.world.userPool);
  return simulation.dispatch(DIRECT_MESSAGES, "MESSAGE_CREATE", {
    ...baseMessage(dmChannelId(user), sentence(random)),
    channel_type: ChannelType.DM,
    author: simulation.world.user(user),
    mentions: [],
  });
}

const interaction: Happening = (simulation, guild, random) => {
  const user = activeMember(simulation, guild, random);
  const channelId = textChannel(simulation, guild, random);
  return sendInteraction(simulation, randomCommand(simulation, guild, user, channelId, random)) !== null;
};

const memberUpdate: Happening = (simulation, guild, random) => {
  const { world } = simulation;
  const user = activeMember(simulation, guild, random);
  const member: APIGuildMember = {
    ...world.member(guild, user),
    nick: random.next() < 0.3 ? null : `nick-${random.below(10_000)}`,
    roles: [2, 3, 4].filter(() => random.next() < 0.5).map((number) => world.roleId(guild, number)),
  };
  world.putMember(guild, user, member);
  return simulation.dispatch(guild, "GUILD_MEMBER_UPDATE", { ...member, guild_id: world.guildId(guild) });
};

const typing: Happening = (simulation, guild, random) => {
  const member = speaker(simulation, guild, random);
  return simulation.dispatch(guild, "TYPING_START", {
    channel_id: textChannel(simulation, guild, random),
    guild_id: simulation.world.guildId(guild),
    user_id: member.user.id,
    timestamp: Math.floor(Date.now() / 1_000),
    member,
  });
};

/** Someone joins a voice channel, or leaves when enough are in one. */
const voiceState: Happening = (simulation, guild, random) => {
  const { world } = simulation;
  const inVoice = world.voiceMembers(guild);
  const leaves = inVoice.length >= GUILD_SHAPE.voiceMembers;
  const user = leaves ? random.pick(inVoice) : activeMember(simulation, guild, random);
  const voiceChannel = GUILD_SHAPE.channels - 1 - random.below(GUILD_SHAPE.voiceChannels);
  const channel_id = leaves ? null : world.channelId(guild, voiceChannel);
  world.setVoice(guild, user, channel_id);
  const member = world.member(guild, user);
  return simulation.dispatch(guild, "VOICE_STATE_UPDATE", {
    guild_id: world.guildId(guild),
    channel_id,
    user_id: member.user.id,
    member,
    session_id: random.below(4_294_967_296).toString(16),
    deaf: false,
    mute: false,
    self_deaf: false,
    self_mute: random.next() < 0.5,
    self_video: false,
    suppress: false,
    request_to_speak_timestamp: null,
  });
};

/** Creates, changes or deletes a channel; only created ones are deleted. */
const channel: Happening = (simulation, guild, random) => {
  const { world } = simulation;
  const guild_id = world.guildId(guild);
  const created = world.createdChannels(guild);
  const luck = random.next();
  if (luck < 0.25 && created.length < LIMITS.createdPerGuild) {
    const id = freshId();
    const made = {
      ...world.channel(guild, GUILD_SHAPE.categories + 1),
      id,
      name: `room-${random.below(1_000)}`,
      position: GUILD_SHAPE.channels + created.length,
    };
    world.putChannel(guild, made);
    return simulation.dispatch(guild, "CHANNEL_CREATE", { ...made, guild_id });
  }
  if (luck < 0.5 && created.length > 0) {
    const found = world.findChannel(random.pick(created))!;
    world.removeCreatedChannel(guild, found.channel.id);
    return simulation.dispatch(guild, "CHANNEL_DELETE", { ...found.channel, guild_id });
  }
  const old = world.channel(guild, random.below(GUILD_SHAPE.channels));
  const changed = { ...old, name: `${old.name.replace(/-v\d+$/, "")}-v${random.below(100)}` };
  world.putChannel(guild, changed);
  return simulation.dispatch(guild, "CHANNEL_UPDATE", { ...changed, guild_id });
};

/** Creates, changes or deletes a role; only created ones are deleted. */
const role: Happening = (simulation, guild, random) => {
  const { world } = simulation;
  const guild_id = world.guildId(guild);
  const created = world.createdRoles(guild);
  const luck = random.next();
  if (luck < 0.25 && created.length < LIMITS.createdPerGuild) {
    const made: APIRole = {
      ...world.role(guild, 2),
      id: freshId(),
      name: `role-${random.below(1_000)}`,
      position: GUILD_SHAPE.roles + created.length,
    };
    world.putRole(guild, made, true);
    return simulation.dispatch(guild, "GUILD_ROLE_CREATE", { guild_id, role: made });
  }
  if (luck < 0.5 && created.length > 0) {
    const role_id = random.pick(created);
    world.removeCreatedRole(guild, role_id);
    return simulation.dispatch(guild, "GUILD_ROLE_DELETE", { guild_id, role_id });
  }
  const changed = {
    ...world.role(guild, 2 + random.below(GUILD_SHAPE.roles - 2)),
    hoist: random.next() < 0.5,
  };
  world.putRole(guild, changed, false);
  return simulation.dispatch(guild, "GUILD_ROLE_UPDATE", { guild_id, role: changed });
};

/** What can happen in a guild, by the kinds of the traffic mix. */
export const HAPPENINGS = { message, interaction, memberUpdate, typing, voiceState, channel, role } as const;

/** A message of the kind users write, without its author. */
export function baseMessage(channel_id: string, content: string): Omit<APIMessage, "author"> {
  return {
    id: freshId(),
    type: 0,
    channel_id,
    content,
    timestamp: new Date().toISOString(),
    edited_timestamp: null,
    tts: false,
    mention_everyone: false,
    mention_roles: [],
    mentions: [],
    attachments: [],
    embeds: [],
    pinned: false,
    flags: 0 as MessageFlags,
    components: [],
    nonce: freshId(),
  };
}

/** Few members do most of the talking. */
function activeMember(simulation: Simulation, guild: number, random: Random): number {
  const { world } = simulation;
  const number = Math.floor(random.next() ** 3 * world.memberCount(guild));
  return world.memberAt(guild, number);
}

function speaker(simulation: Simulation, guild: number, random: Random): APIGuildMember {
  return simulation.world.member(guild, activeMember(simulation, guild, random));
}

function textChannel(simulation: Simulation, guild: number, random: Random): string {
  const first = GUILD_SHAPE.categories;
  const textChannels = GUILD_SHAPE.channels - GUILD_SHAPE.voiceChannels - first;
  return simulation.world.channelId(guild, first + Math.floor(random.next() ** 2 * textChannels));
}

/** Mostly short, sometimes a paragraph. */
function sentence(random: Random): string {
  const words = 1 + Math.floor(random.next() ** 3 * 60);
  let text = random.pick(WORDS);
  for (let word = 1; word < words; word++) text += ` ${random.pick(WORDS)}`;
  return text;
}
