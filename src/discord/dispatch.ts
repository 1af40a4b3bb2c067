/**
 * Owns what the runtime reads out of dispatches and puts into answers: ids, options, bodies. Pure.
 *
 * Used by the worker's router and by what builds the handlers' contexts.
 */
import {
  type APIApplicationCommandInteractionDataOption,
  type APIInteraction,
  type APIInteractionResponseCallbackData,
  ApplicationCommandOptionType,
  ApplicationCommandType,
  type GatewayDispatchPayload,
  InteractionResponseType,
  InteractionType,
  MessageFlags,
} from "discord-api-types/v10";
import type { ReplyBody } from "../core/bot.js";
import { snowflakeTimeMs } from "../core/ids.js";

/** The guild that a dispatch belongs to; undefined for DMs, READY and the like. */
export function guildIdOf(payload: GatewayDispatchPayload): string | undefined {
  const data = payload.d as { guild_id?: unknown; id?: unknown } | null | undefined;
  if (data === null || data === undefined) return undefined;
  if (typeof data.guild_id === "string") return data.guild_id;
  switch (payload.t as string) {
    case "GUILD_CREATE":
    case "GUILD_UPDATE":
    case "GUILD_DELETE":
      return typeof data.id === "string" ? data.id : undefined;
    default:
      return undefined;
  }
}

/** The id that makes the dispatch the same one in another session: of a new message or of an interaction. */
export function objectIdOf(payload: GatewayDispatchPayload): string | undefined {
  switch (payload.t as string) {
    case "MESSAGE_CREATE":
    case "INTERACTION_CREATE":
      return (payload.d as { id?: string }).id;
    default:
      return undefined;
  }
}

/** The slash command's name, or undefined when the interaction is none. */
export function commandNameOf(interaction: APIInteraction): string | undefined {
  if (interaction.type !== InteractionType.ApplicationCommand) return undefined;
  if (interaction.data.type !== ApplicationCommandType.ChatInput) return undefined;
  return interaction.data.name;
}

/** The user who asked; in a guild Discord gives the member, in a DM the user. */
export function userIdOf(interaction: APIInteraction): string {
  return interaction.member?.user.id ?? interaction.user?.id ?? "";
}

/**
 * When the 3 seconds of an interaction began, in Unix ms. Live ones count from their receipt, by our own clock; a
 * replayed one is as old as its snowflake says, by Discord's.
 */
export function interactionAt(interaction: { id: string }, receivedAt: number, replayed: boolean): number {
  return replayed ? Math.min(receivedAt, snowflakeTimeMs(interaction.id)) : receivedAt;
}

export interface InteractionOptions {
  options: Readonly<Record<string, string | number | boolean | undefined>>;
  /** `sub`, or `group sub`. */
  subcommand: string | undefined;
}

/** The options by name as plain values; those of a subcommand are lifted up. */
export function interactionOptions(interaction: APIInteraction): InteractionOptions {
  // Without a prototype: an option may be called "constructor".
  const options: Record<string, string | number | boolean> = Object.create(null);
  if (
    interaction.type !== InteractionType.ApplicationCommand &&
    interaction.type !== InteractionType.ApplicationCommandAutocomplete
  ) {
    return { options, subcommand: undefined };
  }
  const names: string[] = [];
  let level = (interaction.data as { options?: APIApplicationCommandInteractionDataOption[] }).options ?? [];
  while (isSubcommand(level[0])) {
    names.push(level[0].name);
    level = (level[0].options ?? []) as APIApplicationCommandInteractionDataOption[];
  }
  for (const option of level) {
    if ("value" in option) options[option.name] = option.value;
  }
  return { options, subcommand: names.length > 0 ? names.join(" ") : undefined };
}

type WithOptions = { name: string; options?: unknown[] };

/** Discord sends a subcommand, or its group, as the only option of its level. */
function isSubcommand(
  option: APIApplicationCommandInteractionDataOption | undefined,
): option is APIApplicationCommandInteractionDataOption & WithOptions {
  return (
    option?.type === ApplicationCommandOptionType.Subcommand ||
    option?.type === ApplicationCommandOptionType.SubcommandGroup
  );
}

/** A text is a message with that content. */
export function replyBody(body: ReplyBody): APIInteractionResponseCallbackData {
  return typeof body === "string" ? { content: body } : body;
}

/** The callback's body for `reply`. */
export function answerBody(body: ReplyBody): object {
  return { type: InteractionResponseType.ChannelMessageWithSource, data: replyBody(body) };
}

/** The callback's body for `defer`: "thinking", until a follow-up comes. */
export function deferBody(options: { ephemeral?: boolean } = {}): object {
  const type = InteractionResponseType.DeferredChannelMessageWithSource;
  return options.ephemeral === true ? { type, data: { flags: MessageFlags.Ephemeral } } : { type };
}
