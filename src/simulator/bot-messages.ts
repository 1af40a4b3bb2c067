/**
 * Messages written by the bot: their check, their making, and the dispatches that tell of them.
 *
 * Invariants: a message that is not ephemeral is stored before its dispatch leaves; an edit keeps the
 * id. Message, "Create Message". Used by the message and interaction routes.
 */
import type { APIMessage, APIUser } from "discord-api-types/v10";
import { z } from "zod";
import { baseMessage } from "./happenings.js";
import { LIMITS } from "./limits.js";
import type { StoredMessage } from "./message-store.js";
import { ApiError, type UploadedFile } from "./rest-api.js";
import { DIRECT_MESSAGES, type Simulation } from "./simulation.js";
import { freshId } from "./snowflake.js";

export const MessageFlag = { ephemeral: 64, loading: 128, componentsV2: 32_768 } as const;

const EMBED_TEXTS = ["title", "description"] as const;

const embed = z.looseObject({
  title: z.string().max(256).optional(),
  description: z.string().max(4_096).optional(),
  fields: z
    .array(z.looseObject({ name: z.string().max(256), value: z.string().max(1_024) }))
    .max(25)
    .optional(),
});

/** The body of a new message or an edit. */
export const messageBody = z.looseObject({
  content: z.string().max(LIMITS.messageLength).nullish(),
  nonce: z.union([z.number().int(), z.string().max(LIMITS.nonceLength)]).nullish(),
  enforce_nonce: z.boolean().nullish(),
  tts: z.boolean().nullish(),
  embeds: z
    .array(embed)
    .max(LIMITS.embedsPerMessage)
    .nullish()
    .refine((embeds) => embedLength(embeds ?? []) <= LIMITS.embedTotalLength, {
      message: `Embed size exceeds maximum size of ${LIMITS.embedTotalLength}`,
    }),
  components: z
    .array(z.looseObject({ type: z.number().int() }))
    .max(40)
    .nullish(),
  attachments: z.array(z.looseObject({})).max(LIMITS.attachmentsPerMessage).nullish(),
  sticker_ids: z.array(z.string()).max(3).nullish(),
  poll: z.looseObject({}).nullish(),
  flags: z.number().int().min(0).nullish(),
  message_reference: z.looseObject({ message_id: z.string().optional() }).nullish(),
});

export type MessageBody = z.output<typeof messageBody>;

/** Where a message goes and what it is beside its content. */
export interface MessagePlace {
  readonly guild: number;
  readonly channelId: string;
  readonly files: readonly UploadedFile[];
  /** Fields Discord adds: type, webhook_id, interaction_metadata, flags. */
  readonly extra?: Partial<APIMessage>;
}

/** Refuses a message with nothing in it (50006). */
export function refuseEmpty(body: MessageBody, files: readonly UploadedFile[]): void {
  const lists = [body.embeds, body.components, body.sticker_ids, files];
  if (body.content || body.poll != null || lists.some((list) => (list?.length ?? 0) > 0)) return;
  throw new ApiError(400, 50006, "Cannot send an empty message");
}

/** Makes, stores and dispatches a message of the bot. */
export function createBotMessage(simulation: Simulation, body: MessageBody, place: MessagePlace): APIMessage {
  const { world, counters, messages } = simulation;
  const { nonce: _unused, ...base } = baseMessage(place.channelId, body.content ?? "");
  const flags = (body.flags ?? 0) | (place.extra?.flags ?? 0);
  const message = {
    ...base,
    ...contentOf(body, place.files),
    tts: body.tts ?? false,
    author: world.botUser,
    ...(body.nonce != null && { nonce: body.nonce }),
    ...(body.message_reference != null && {
      type: 19,
      message_reference: { type: 0, channel_id: place.channelId, ...body.message_reference },
    }),
    ...place.extra,
    flags,
  } as APIMessage;
  const ephemeral = (flags & MessageFlag.ephemeral) !== 0;
  const stored: StoredMessage = { message, guild: place.guild, ephemeral };
  messages.add(stored);
  counters.botMessages++;
  tell(simulation, "MESSAGE_CREATE", stored);
  return message;
}

/** Changes the given fields of a stored message and dispatches the update. */
export function editBotMessage(
  simulation: Simulation,
  stored: StoredMessage,
  body: MessageBody,
  files: readonly UploadedFile[],
): APIMessage {
  stored.message = {
    ...stored.message,
    ...contentOf(body, files),
    ...(body.content !== undefined && { content: body.content ?? "" }),
    flags: (stored.message.flags ?? 0) & ~MessageFlag.loading,
    edited_timestamp: new Date().toISOString(),
  } as APIMessage;
  tell(simulation, "MESSAGE_UPDATE", stored);
  return stored.message;
}

export function deleteBotMessage(simulation: Simulation, stored: StoredMessage): void {
  simulation.messages.delete(stored.message.id);
  if (stored.ephemeral) return;
  const { id, channel_id } = stored.message;
  simulation.dispatch(stored.guild, "MESSAGE_DELETE", {
    id,
    channel_id,
    ...(stored.guild !== DIRECT_MESSAGES && { guild_id: simulation.world.guildId(stored.guild) }),
  });
}

/** The metadata of a message that answers an interaction. */
export function interactionMetadata(id: string, type: number, user: APIUser) {
  return { id, type, user, authorizing_integration_owners: {} };
}

function contentOf(body: MessageBody, files: readonly UploadedFile[]) {
  return {
    ...(body.embeds !== undefined && { embeds: body.embeds ?? [] }),
    ...(body.components !== undefined && { components: body.components ?? [] }),
    ...(files.length > 0 && { attachments: files.map(attachment) }),
  };
}

function attachment(file: UploadedFile) {
  const id = freshId();
  const url = `https://cdn.discordapp.com/attachments/${id}/${encodeURIComponent(file.name)}`;
  return { id, filename: file.name, size: file.bytes, content_type: file.contentType, url, proxy_url: url };
}

function tell(simulation: Simulation, t: "MESSAGE_CREATE" | "MESSAGE_UPDATE", stored: StoredMessage): void {
  if (stored.ephemeral || !simulation.options.echoBotMessages) return;
  const { guild, message } = stored;
  if (guild === DIRECT_MESSAGES) {
    simulation.dispatch(guild, t, message);
    return;
  }
  const { user: _user, ...member } = simulation.world.botMember(guild);
  simulation.dispatch(guild, t, { ...message, guild_id: simulation.world.guildId(guild), member });
}

function embedLength(embeds: readonly z.output<typeof embed>[]): number {
  let length = 0;
  for (const one of embeds) {
    for (const key of EMBED_TEXTS) length += one[key]?.length ?? 0;
    for (const field of one.fields ?? []) length += field.name.length + field.value.length;
  }
  return length;
}
