/**
 * Answering interactions: the callback within 3 s, then edits and follow-ups for 15 minutes.
 *
 * Refusals: 10062 for an unknown interaction or one past its time, 40060 for a second answer, 10015
 * for the token of an unanswered one, 50027 for a token past its time. Interactions, "Receiving and Responding".
 * Used by rest.ts.
 */
import { InteractionResponseType as Answer, InteractionType } from "discord-api-types/v10";
import { z } from "zod";
import {
  createBotMessage,
  deleteBotMessage,
  editBotMessage,
  interactionMetadata,
  MessageFlag,
  messageBody,
  refuseEmpty,
} from "./bot-messages.js";
import type { InteractionState } from "./interaction-book.js";
import { ApiError, notFound, parseBody, type RestRequest, type Route } from "./rest-api.js";

const UNKNOWN_MESSAGE = 10008;
const UNKNOWN_WEBHOOK = 10015;
const UNKNOWN_INTERACTION = 10062;
const ALREADY_ACKNOWLEDGED = 40060;
const WEBHOOK = "/webhooks/:applicationId/:token";

const callbackBody = z.looseObject({ type: z.number().int(), data: z.unknown().optional() });

/** Which answers fit which interaction. */
const ANSWERS: Readonly<Record<number, readonly number[]>> = {
  [InteractionType.ApplicationCommand]: [4, 5, 9],
  [InteractionType.MessageComponent]: [4, 5, 6, 7, 9],
  [InteractionType.ApplicationCommandAutocomplete]: [8],
  [InteractionType.ModalSubmit]: [4, 5, 6, 7],
};

const dataSchemas: Readonly<Record<number, z.ZodType>> = {
  [Answer.ChannelMessageWithSource]: messageBody,
  [Answer.DeferredChannelMessageWithSource]: z.looseObject({ flags: z.number().int().nullish() }).nullish(),
  [Answer.UpdateMessage]: messageBody,
  [Answer.ApplicationCommandAutocompleteResult]: z.looseObject({
    choices: z.array(z.looseObject({ name: z.string().min(1).max(100) })).max(25),
  }),
  [Answer.Modal]: z.looseObject({
    custom_id: z.string().min(1).max(100),
    title: z.string().min(1).max(45),
    components: z.array(z.looseObject({})).min(1).max(5),
  }),
};

/** Answers whose data is a message. */
const WITH_MESSAGE: readonly number[] = [
  Answer.ChannelMessageWithSource,
  Answer.DeferredChannelMessageWithSource,
  Answer.UpdateMessage,
];

function callback(request: RestRequest) {
  const { simulation, params, query, files } = request;
  const body = parseBody(callbackBody, request.body ?? {});
  const known = simulation.interactions.find(params.interactionId!);
  if (known !== undefined && known.token === params.token && known.state === "pending") {
    refuseWrongAnswer(known, body, request);
  }
  switch (simulation.interactions.answer(params.interactionId!, params.token!, body)) {
    case "unknown":
    case "late":
      throw notFound(UNKNOWN_INTERACTION, "interaction");
    case "double":
      throw new ApiError(400, ALREADY_ACKNOWLEDGED, "Interaction has already been acknowledged.");
    case "accepted":
  }
  const interaction = known!;
  const data = WITH_MESSAGE.includes(body.type) ? parseBody(messageBody, body.data ?? {}) : {};
  if (body.type === Answer.ChannelMessageWithSource) {
    interaction.originalMessageId = answerMessage(request, interaction, data, 0).id;
  } else if (body.type === Answer.DeferredChannelMessageWithSource) {
    const flags = (data.flags ?? 0) & MessageFlag.ephemeral;
    interaction.originalMessageId = answerMessage(request, interaction, { flags }, MessageFlag.loading).id;
  } else {
    interaction.originalMessageId = interaction.messageId;
    const stored = simulation.messages.find(interaction.messageId ?? "");
    if (body.type === Answer.UpdateMessage && stored !== undefined) {
      editBotMessage(simulation, stored, data, files);
    }
  }
  if (query.get("with_response") !== "true") return { status: 204 };
  return { status: 200, body: callbackResponse(request, interaction, body.type) };
}

function refuseWrongAnswer(
  interaction: InteractionState,
  body: { type: number; data?: unknown },
  request: RestRequest,
) {
  if (!(ANSWERS[interaction.type] ?? []).includes(body.type)) {
    const message = `Interaction type ${interaction.type} can not be answered with type ${body.type}.`;
    const errors = { type: { _errors: [{ code: "BASE_TYPE_CHOICES", message }] } };
    throw new ApiError(400, 50035, "Invalid Form Body", errors);
  }
  const schema = dataSchemas[body.type];
  if (schema !== undefined) parseBody(z.object({ data: schema }), { data: body.data });
  if (body.type === Answer.ChannelMessageWithSource) {
    refuseEmpty(parseBody(messageBody, body.data), request.files);
  }
}

function callbackResponse({ simulation }: RestRequest, interaction: InteractionState, type: number) {
  const message = simulation.messages.find(interaction.originalMessageId ?? "")?.message;
  const flags = message?.flags ?? 0;
  return {
    interaction: {
      id: interaction.id,
      type: interaction.type,
      ...(message !== undefined && {
        response_message_id: message.id,
        response_message_loading: (flags & MessageFlag.loading) !== 0,
        response_message_ephemeral: (flags & MessageFlag.ephemeral) !== 0,
      }),
    },
    resource: { type, ...(message !== undefined && { message }) },
  };
}

/** The message that answers the interaction itself. */
function answerMessage(
  { simulation, files }: RestRequest,
  interaction: InteractionState,
  body: z.output<typeof messageBody>,
  flags: number,
) {
  const { id, type, user, guild, channelId } = interaction;
  return createBotMessage(simulation, body, {
    guild,
    channelId,
    files,
    extra: {
      type: 20,
      flags,
      webhook_id: simulation.options.applicationId,
      application_id: simulation.options.applicationId,
      interaction_metadata: interactionMetadata(id, type, user) as never,
    },
  });
}

/** The answered interaction of a webhook token. */
function answeredInteraction({ simulation, params }: RestRequest): InteractionState {
  const found = simulation.interactions.findByToken(params.token!);
  if (found === undefined || params.applicationId !== simulation.options.applicationId) {
    throw notFound(UNKNOWN_WEBHOOK, "Webhook");
  }
  if (found.expired) throw new ApiError(401, 50027, "Invalid Webhook Token");
  if (found.interaction.state !== "answered") throw notFound(UNKNOWN_WEBHOOK, "Webhook");
  return found.interaction;
}

function webhookMessage(request: RestRequest) {
  const interaction = answeredInteraction(request);
  const { messageId } = request.params;
  const id = messageId === "@original" ? interaction.originalMessageId : messageId;
  const stored = id == null ? undefined : request.simulation.messages.find(id);
  if (stored === undefined || stored.message.webhook_id !== request.params.applicationId) {
    throw notFound(UNKNOWN_MESSAGE, "Message");
  }
  return { interaction, stored };
}

/** A follow-up; the first one after deferring fills the deferred message instead. */
function followUp(request: RestRequest) {
  const interaction = answeredInteraction(request);
  const body = parseBody(messageBody, request.body ?? {});
  refuseEmpty(body, request.files);
  const { simulation, files } = request;
  const original = simulation.messages.find(interaction.originalMessageId ?? "");
  if (interaction.deferred && original !== undefined) {
    interaction.deferred = false;
    return { status: 200, body: editBotMessage(simulation, original, body, files) };
  }
  const { applicationId } = simulation.options;
  const { guild, channelId, originalMessageId } = interaction;
  const extra = {
    webhook_id: applicationId,
    application_id: applicationId,
    ...(originalMessageId !== null && {
      type: 19,
      message_reference: { type: 0, channel_id: channelId, message_id: originalMessageId },
    }),
  };
  return { status: 200, body: createBotMessage(simulation, body, { guild, channelId, files, extra }) };
}

const hook = { open: true, bucket: { limit: 5, windowMs: 2_000 } } as const;

export const interactionRoutes: readonly Route[] = [
  { method: "POST", path: "/interactions/:interactionId/:token/callback", open: true, handle: callback },
  { ...hook, method: "POST", path: WEBHOOK, handle: followUp },
  {
    ...hook,
    method: "GET",
    path: `${WEBHOOK}/messages/:messageId`,
    handle: (request) => ({ status: 200, body: webhookMessage(request).stored.message }),
  },
  {
    ...hook,
    method: "PATCH",
    path: `${WEBHOOK}/messages/:messageId`,
    handle: (request) => {
      const { interaction, stored } = webhookMessage(request);
      const body = parseBody(messageBody, request.body ?? {});
      if (request.params.messageId === "@original") interaction.deferred = false;
      return { status: 200, body: editBotMessage(request.simulation, stored, body, request.files) };
    },
  },
  {
    ...hook,
    method: "DELETE",
    path: `${WEBHOOK}/messages/:messageId`,
    handle: (request) => {
      const { interaction, stored } = webhookMessage(request);
      deleteBotMessage(request.simulation, stored);
      if (request.params.messageId === "@original") interaction.originalMessageId = null;
      return { status: 204 };
    },
  },
];
