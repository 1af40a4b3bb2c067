/**
 * Runs a bot's handlers against a state, as a worker would but for the log and Discord: given a state, when this
 * comes in, then that is the state, that was answered and that was sent.
 */
import type { APIInteraction, GatewayDispatchPayload } from "discord-api-types/v10";
import type { Bot, ReplyBody } from "../../src/core/bot.js";
import { runDraft } from "../../src/core/draft.js";
import { interactionOptions, replyBody, userIdOf } from "../../src/discord/dispatch.js";

export interface Ran<State> {
  state: State;
  changed: boolean;
  replies: string[];
  sent: { channelId: string; content: string }[];
}

const guildId = "100000000000000001";
const nothing = { shard: 0, log: { debug() {}, info() {}, warn() {}, error() {} }, rest: {} };

/** A dispatch of the guild goes to `onAny` and to the handler of its name. */
export async function dispatch<State extends object>(
  bot: Bot<State>,
  state: State,
  t: string,
  data: object,
): Promise<Ran<State>> {
  return run(state, async (draft, out) => {
    const context = { ...nothing, ...out, guildId, state: draft, t, data } as never;
    await bot.onAny?.(context);
    await (
      bot.on?.[t as GatewayDispatchPayload["t"] & keyof typeof bot.on] as ((c: never) => void) | undefined
    )?.(context);
  });
}

export interface Asked {
  userId?: string;
  subcommand?: string;
  options?: Record<string, string>;
  permissions?: string;
}

/** A slash command, through the options' own decoding. */
export async function command<State extends object>(
  bot: Bot<State>,
  state: State,
  name: string,
  { userId = "200", subcommand, options = {}, permissions = "0" }: Asked = {},
): Promise<Ran<State>> {
  const values = Object.entries(options).map(([key, value]) => ({ name: key, type: 3, value }));
  const interaction = {
    type: 2,
    id: "1",
    guild_id: guildId,
    member: { user: { id: userId }, permissions },
    data: {
      type: 1,
      name,
      options: subcommand === undefined ? values : [{ name: subcommand, type: 1, options: values }],
    },
  } as unknown as APIInteraction;
  return run(state, async (draft, out) => {
    const context = { ...nothing, ...out, guildId, state: draft, t: "INTERACTION_CREATE", data: interaction };
    const asked = { interaction, userId: userIdOf(interaction), ...interactionOptions(interaction) };
    await bot.commands?.[name]?.run({ ...context, ...asked } as never);
  });
}

type Out = { reply(body: ReplyBody): void; send(channelId: string, body: ReplyBody): void };

async function run<State extends object>(
  state: State,
  handle: (draft: State, out: Out) => Promise<void>,
): Promise<Ran<State>> {
  const ran: Pick<Ran<State>, "replies" | "sent"> = { replies: [], sent: [] };
  const out: Out = {
    reply: (body) => void ran.replies.push(replyBody(body).content ?? ""),
    send: (channelId, body) => void ran.sent.push({ channelId, content: replyBody(body).content ?? "" }),
  };
  const drafted = await runDraft(state, (draft) => handle(draft, out));
  return { ...ran, state: drafted.state, changed: drafted.changed };
}
