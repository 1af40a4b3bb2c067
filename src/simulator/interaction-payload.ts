/**
 * INTERACTION_CREATE payloads: a member of a guild calls a command, with option values that fit its
 * definition, or uses a component, an autocompleted option or a modal.
 *
 * Interactions and Responses, "Interaction Object". Used by traffic (seeded values) and by control
 * (given values).
 */
import { randomBytes } from "node:crypto";
import { InteractionType } from "discord-api-types/v10";
import type { Command, CommandOption } from "./commands.js";
import { GUILD_SHAPE } from "./limits.js";
import type { Random } from "./random.js";
import type { Simulation } from "./simulation.js";
import { freshId } from "./snowflake.js";

const MEMBER_PERMISSIONS = "2251799813685247";
const BOT_PERMISSIONS = "8";
const ATTACHMENT_SIZE_LIMIT_BYTES = 10_485_760;

/** An option as an interaction carries it. */
export interface OptionValue {
  name: string;
  type: number;
  value?: string | number | boolean | undefined;
  focused?: boolean | undefined;
  options?: OptionValue[] | undefined;
}

export interface InteractionRequest {
  readonly type: InteractionType;
  readonly guild: number;
  readonly channelId: string;
  /** Pool index of the member who acts. */
  readonly user: number;
  /** Command name, or custom id of a component or modal. */
  readonly name: string;
  readonly data: Record<string, unknown>;
  /** The message object a component sits on. */
  readonly message?: { readonly id: string };
}

/** Dispatches an interaction and enters it in the book; null if no session was there to get it. */
export function sendInteraction(simulation: Simulation, request: InteractionRequest): string | null {
  const { world, options } = simulation;
  const { guild, user } = request;
  const id = freshId();
  const token = randomBytes(96).toString("base64url");
  const guildId = world.guildId(guild);
  const found = world.findChannel(request.channelId);
  const payload = {
    id,
    application_id: options.applicationId,
    type: request.type,
    data: request.data,
    guild: { id: guildId, locale: "en-US", features: [] },
    guild_id: guildId,
    channel: { ...found?.channel, id: request.channelId, permissions: MEMBER_PERMISSIONS },
    channel_id: request.channelId,
    member: { ...world.member(guild, user), permissions: MEMBER_PERMISSIONS },
    ...(request.message !== undefined && { message: request.message }),
    token,
    version: 1,
    app_permissions: BOT_PERMISSIONS,
    locale: "en-US",
    guild_locale: "en-US",
    entitlements: [],
    authorizing_integration_owners: { 0: guildId },
    context: 0,
    attachment_size_limit: ATTACHMENT_SIZE_LIMIT_BYTES,
  };
  if (!simulation.dispatch(guild, "INTERACTION_CREATE", payload)) return null;
  simulation.interactions.open({
    id,
    token,
    type: request.type,
    guild,
    channelId: request.channelId,
    user: world.user(user),
    name: request.name,
    messageId: request.message?.id ?? null,
  });
  return id;
}

/** The `data` of a command interaction, with the objects its options name resolved. */
export function commandData(
  simulation: Simulation,
  guild: number,
  command: Command,
  options: OptionValue[],
): Record<string, unknown> {
  const resolved = resolve(simulation, guild, options);
  return {
    id: command.id,
    name: command.name,
    type: command.type,
    ...(command.guild_id !== undefined && { guild_id: command.guild_id }),
    ...(options.length > 0 && { options }),
    ...(Object.keys(resolved).length > 0 && { resolved }),
  };
}

/** Seeded values for a command's options: required ones always, others mostly, one subcommand. */
export function randomOptions(
  simulation: Simulation,
  guild: number,
  options: readonly CommandOption[],
  random: Random,
): OptionValue[] {
  const subcommands = options.filter((option) => option.type <= 2);
  if (subcommands.length > 0) {
    const chosen = random.pick(subcommands);
    const inner = randomOptions(simulation, guild, chosen.options ?? [], random);
    return [{ name: chosen.name, type: chosen.type, options: inner }];
  }
  return options
    .filter((option) => option.required === true || (option.type !== 11 && random.next() < 0.7))
    .map((option) => ({
      name: option.name,
      type: option.type,
      value: randomValue(simulation, guild, option, random),
    }));
}

function randomValue(simulation: Simulation, guild: number, option: CommandOption, random: Random) {
  const { world } = simulation;
  if (option.choices !== undefined && option.choices.length > 0) return random.pick(option.choices).value;
  const min = option.min_value ?? 0;
  const max = option.max_value ?? min + 100;
  switch (option.type) {
    case 4:
      return Math.ceil(min) + random.below(Math.max(1, Math.floor(max) - Math.ceil(min) + 1));
    case 5:
      return random.next() < 0.5;
    case 6:
    case 9:
      return world.user(world.memberAt(guild, random.below(world.memberCount(guild)))).id;
    case 7:
      return world.channelId(guild, random.below(GUILD_SHAPE.channels));
    case 8:
      return world.roleId(guild, random.below(GUILD_SHAPE.roles));
    case 10:
      return min + random.next() * (max - min);
    case 11:
      return freshId();
    default: {
      const length = Math.min(option.max_length ?? 12, Math.max(option.min_length ?? 1, 12));
      return Array.from({ length }, () => random.pick(["a", "e", "i", "o", "n", "r", "s", "t"])).join("");
    }
  }
}

function resolve(simulation: Simulation, guild: number, options: readonly OptionValue[]) {
  const { world } = simulation;
  const resolved: Record<string, Record<string, unknown>> = {};
  const put = (kind: string, id: string, value: unknown) => {
    resolved[kind] = { ...resolved[kind], [id]: value };
  };
  for (const { type, value, options: inner } of options) {
    const id = String(value);
    if (inner !== undefined) {
      for (const [kind, objects] of Object.entries(resolve(simulation, guild, inner))) {
        for (const [key, object] of Object.entries(objects)) put(kind, key, object);
      }
    } else if (type === 6 || type === 9) {
      const index = world.userIndex(id);
      if (index < 0) continue;
      const { user, ...member } = world.member(guild, index);
      put("users", id, user);
      if (world.isMember(guild, index)) put("members", id, { ...member, permissions: MEMBER_PERMISSIONS });
    } else if (type === 7) {
      const found = world.findChannel(id);
      if (found !== null) put("channels", id, { ...found.channel, permissions: MEMBER_PERMISSIONS });
    } else if (type === 8) {
      const role = world.roles(guild).find((other) => other.id === id);
      if (role !== undefined) put("roles", id, role);
    } else if (type === 11) {
      const url = `https://cdn.discordapp.com/ephemeral-attachments/${id}/file.txt`;
      put("attachments", id, { id, filename: "file.txt", size: 12, url, proxy_url: url, ephemeral: true });
    }
  }
  return resolved;
}

/** One seeded call of a command registered in the guild. */
export function randomCommand(
  simulation: Simulation,
  guild: number,
  user: number,
  channelId: string,
  random: Random,
) {
  const command = random.pick(simulation.commands.callableIn(simulation.world.guildId(guild)));
  const options = randomOptions(simulation, guild, command.options ?? [], random);
  return {
    type: InteractionType.ApplicationCommand,
    guild,
    channelId,
    user,
    name: command.name,
    data: commandData(simulation, guild, command, options),
  };
}
