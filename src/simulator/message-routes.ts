/**
 * Routes of messages in channels: create (with enforced nonces), read, edit, delete, react, type.
 *
 * Messages of simulated users are not kept: deleting them or reacting to them is accepted and told by
 * dispatch, reading them is 404. Message, Channel documentation. Used by rest.ts.
 */
import {
  createBotMessage,
  deleteBotMessage,
  editBotMessage,
  messageBody,
  refuseEmpty,
} from "./bot-messages.js";
import { indexOfUser } from "./people.js";
import { ApiError, notFound, parseBody, type RestRequest, type Route } from "./rest-api.js";
import { DIRECT_MESSAGES, type Simulation } from "./simulation.js";
import { splitId } from "./snowflake.js";

const UNKNOWN_CHANNEL = 10003;
const UNKNOWN_MESSAGE = 10008;
const MESSAGES = "/channels/:channelId/messages";
const MESSAGE = `${MESSAGES}/:messageId`;

const sendBucket = { limit: 5, windowMs: 5_000 };
const readBucket = { limit: 10, windowMs: 1_000 };
const reactBucket = { limit: 1, windowMs: 250 };

/** The guild of a channel the bot can write to; DIRECT_MESSAGES for a DM channel. */
function placeOf({ simulation, params }: RestRequest): number {
  const id = params.channelId!;
  const found = simulation.world.findChannel(id);
  if (found !== null && simulation.world.status(found.guild) !== "left") return found.guild;
  if (indexOfUser(id, simulation.world.userPool, 1) >= 0) return DIRECT_MESSAGES;
  throw notFound(UNKNOWN_CHANNEL, "Channel");
}

/** A message the bot wrote in this channel. */
function ownMessage(request: RestRequest) {
  placeOf(request);
  const stored = request.simulation.messages.find(request.params.messageId!);
  if (stored === undefined || stored.message.channel_id !== request.params.channelId || stored.ephemeral) {
    throw notFound(UNKNOWN_MESSAGE, "Message");
  }
  return stored;
}

function guildField(simulation: Simulation, guild: number) {
  return guild === DIRECT_MESSAGES ? {} : { guild_id: simulation.world.guildId(guild) };
}

function createMessage(request: RestRequest) {
  const { simulation, files } = request;
  const guild = placeOf(request);
  const body = parseBody(messageBody, request.body ?? {});
  refuseEmpty(body, files);
  const enforced = body.enforce_nonce === true && body.nonce != null ? String(body.nonce) : null;
  const same = enforced === null ? undefined : simulation.messages.findByNonce(enforced);
  if (same !== undefined) {
    simulation.counters.nonceDuplicates++;
    return { status: 200, body: same.message };
  }
  const message = createBotMessage(simulation, body, { guild, channelId: request.params.channelId!, files });
  if (enforced !== null) simulation.messages.rememberNonce(enforced, message.id);
  return { status: 200, body: message };
}

function deleteMessage(request: RestRequest) {
  const { simulation, params } = request;
  const guild = placeOf(request);
  const stored = simulation.messages.find(params.messageId!);
  if (stored !== undefined && stored.message.channel_id === params.channelId) {
    deleteBotMessage(simulation, stored);
    return { status: 204 };
  }
  if (splitId(params.messageId!) === null) throw notFound(UNKNOWN_MESSAGE, "Message");
  simulation.dispatch(guild, "MESSAGE_DELETE", {
    id: params.messageId,
    channel_id: params.channelId,
    ...guildField(simulation, guild),
  });
  return { status: 204 };
}

/** Adds or removes the bot's reaction. */
function react(t: "MESSAGE_REACTION_ADD" | "MESSAGE_REACTION_REMOVE") {
  return (request: RestRequest) => {
    const { simulation, params } = request;
    const guild = placeOf(request);
    if (splitId(params.messageId!) === null) throw notFound(UNKNOWN_MESSAGE, "Message");
    const [name, id] = params.emoji!.split(":");
    if (!name) throw new ApiError(400, 10014, "Unknown Emoji");
    simulation.dispatch(guild, t, {
      user_id: simulation.world.botUser.id,
      channel_id: params.channelId,
      message_id: params.messageId,
      ...guildField(simulation, guild),
      emoji: { id: id ?? null, name },
      burst: false,
      type: 0,
    });
    return { status: 204 };
  };
}

export const messageRoutes: readonly Route[] = [
  { method: "POST", path: MESSAGES, bucket: sendBucket, handle: createMessage },
  {
    method: "GET",
    path: MESSAGES,
    bucket: readBucket,
    handle: (request) => {
      placeOf(request);
      const limit = Math.min(100, Math.max(1, Number(request.query.get("limit") ?? 50) || 50));
      return { status: 200, body: request.simulation.messages.ofChannel(request.params.channelId!, limit) };
    },
  },
  {
    method: "GET",
    path: MESSAGE,
    bucket: readBucket,
    handle: (request) => ({ status: 200, body: ownMessage(request).message }),
  },
  {
    method: "PATCH",
    path: MESSAGE,
    bucket: sendBucket,
    handle: (request) => {
      const stored = ownMessage(request);
      const body = parseBody(messageBody, request.body ?? {});
      return { status: 200, body: editBotMessage(request.simulation, stored, body, request.files) };
    },
  },
  { method: "DELETE", path: MESSAGE, bucket: { limit: 5, windowMs: 1_000 }, handle: deleteMessage },
  {
    method: "PUT",
    path: `${MESSAGE}/reactions/:emoji/@me`,
    bucket: reactBucket,
    handle: react("MESSAGE_REACTION_ADD"),
  },
  {
    method: "DELETE",
    path: `${MESSAGE}/reactions/:emoji/@me`,
    bucket: reactBucket,
    handle: react("MESSAGE_REACTION_REMOVE"),
  },
  {
    method: "POST",
    path: "/channels/:channelId/typing",
    bucket: sendBucket,
    handle: (request) => {
      placeOf(request);
      return { status: 204 };
    },
  },
];
