/**
 * Owns running the bot's code on one dispatch: which handlers want it, what they are given, what they leave behind.
 *
 * Invariants:
 * - A handler's mutations and effects are taken together or not at all.
 * - Synchronous handlers cost no promise.
 * - The nonce of a message is made of the dispatch, so the same dispatch run again makes the same message.
 */
import { createHash } from "node:crypto";
import {
  type APIChatInputApplicationCommandInteraction,
  type GatewayDispatchPayload,
  InteractionType,
  MessageFlags,
} from "discord-api-types/v10";
import type {
  AnyBot,
  CommandContext,
  DirectContext,
  DispatchName,
  GuildContext,
  Logger,
  ReplyBody,
  RestClient,
} from "../core/bot.js";
import { GuildstreamError } from "../core/errors.js";
import type { Effect } from "../core/event.js";
import { mirrorReducers } from "../core/mirror.js";
import { answerBody, deferBody, interactionOptions, replyBody, userIdOf } from "../discord/dispatch.js";

/** A dispatch on its way, as the handlers need it. */
export interface Incoming {
  payload: GatewayDispatchPayload;
  guildId: string | undefined;
  shard: number;
  session: string;
  s: number;
  /** Unix ms when the gateway delivered it: the interaction's clock. */
  receivedAt: number;
}

export class Handlers {
  readonly #bot: AnyBot;
  readonly #rest: RestClient;
  readonly #log: Logger;
  readonly #mirror: ReturnType<typeof mirrorReducers>;
  readonly #wanted = new Map<string, boolean>();

  constructor(bot: AnyBot, rest: RestClient, log: Logger) {
    this.#bot = bot;
    this.#rest = rest;
    this.#log = log;
    this.#mirror = bot.mirror === undefined ? undefined : mirrorReducers(bot.mirror);
  }

  /** Whether any code of the bot looks at this dispatch; the others never touch a guild. */
  wants(t: DispatchName, hasGuild: boolean): boolean {
    if (!hasGuild) return this.#bot.onDirect !== undefined && t !== "READY" && t !== "RESUMED";
    if (this.#bot.onAny !== undefined || this.#bot.on?.[t] !== undefined) return true;
    let wanted = this.#wanted.get(t);
    if (wanted === undefined) {
      wanted =
        (t === "INTERACTION_CREATE" && this.#bot.commands !== undefined) ||
        (this.#mirror !== undefined && /^(GUILD|CHANNEL)_/.test(t));
      this.#wanted.set(t, wanted);
    }
    return wanted;
  }

  /** Runs every handler in order on the draft; returns a promise only when one of them does. */
  run(incoming: Incoming, draft: object, effects: Effect[]): void | Promise<void> {
    const { payload } = incoming;
    const t = payload.t as DispatchName;
    this.#mirror?.(draft as never, t, payload.d as never);
    const context = this.#context(incoming, draft, effects);
    let pending: Promise<void> | undefined;
    const step = (run: (() => void | Promise<void>) | undefined): void => {
      if (run === undefined) return;
      if (pending !== undefined) pending = pending.then(run);
      else pending = asPromise(run());
    };
    const { onAny, on } = this.#bot;
    step(onAny && (() => onAny(context)));
    const handler = on?.[t] as ((context: GuildContext<object>) => void | Promise<void>) | undefined;
    step(handler && (() => handler(context)));
    if (t === "INTERACTION_CREATE" && this.#bot.commands !== undefined)
      step(this.#command(incoming, context, effects));
    return pending;
  }

  runDirect(incoming: Incoming, effects: Effect[]): void | Promise<void> {
    const context = this.#context(incoming, undefined, effects) as unknown as DirectContext;
    return this.#bot.onDirect?.(context);
  }

  /** What the user sees when a command's handler has thrown before it answered. */
  failureAnswer(incoming: Incoming): Effect | undefined {
    if (incoming.payload.t !== "INTERACTION_CREATE") return undefined;
    const interaction = incoming.payload.d;
    if (interaction.type !== InteractionType.ApplicationCommand) return undefined;
    const sorry = { content: "That did not work. It has been reported.", flags: MessageFlags.Ephemeral };
    return answer(incoming, interaction, answerBody(sorry));
  }

  #context(incoming: Incoming, draft: object | undefined, effects: Effect[]): GuildContext<object> {
    return {
      guildId: incoming.guildId as string,
      shard: incoming.shard,
      state: draft as object,
      t: incoming.payload.t as DispatchName,
      data: incoming.payload.d as never,
      log: this.#log,
      rest: this.#rest,
      send: (channelId, body) => {
        const content = typeof body === "string" ? { content: body } : body;
        effects.push({ kind: "message", channelId, nonce: nonceOf(incoming, effects.length), body: content });
      },
    };
  }

  #command(
    incoming: Incoming,
    context: GuildContext<object>,
    effects: Effect[],
  ): (() => void | Promise<void>) | undefined {
    const interaction = incoming.payload.d as APIChatInputApplicationCommandInteraction;
    if (interaction.type !== InteractionType.ApplicationCommand) return undefined;
    const command = Object.hasOwn(this.#bot.commands!, interaction.data.name)
      ? this.#bot.commands![interaction.data.name]
      : undefined;
    if (command === undefined) return undefined;
    let answered = false;
    const answerOnce = (body: object): void => {
      if (answered)
        throw new GuildstreamError("BOT_INVALID", "an interaction is answered once; use followUp after that");
      answered = true;
      effects.push(answer(incoming, interaction, body));
    };
    const { options, subcommand } = interactionOptions(interaction);
    const commandContext: CommandContext<object> = Object.assign(
      Object.create(context) as GuildContext<object>,
      {
        ...context,
        t: "INTERACTION_CREATE" as const,
        data: interaction as never,
        interaction,
        userId: userIdOf(interaction),
        options,
        subcommand,
        reply: (body: ReplyBody) => answerOnce(answerBody(body)),
        defer: (how?: { ephemeral?: boolean }) => answerOnce(deferBody(how)),
        followUp: (body: ReplyBody) => {
          effects.push({
            kind: "followUp",
            applicationId: interaction.application_id,
            interactionId: interaction.id,
            token: interaction.token,
            at: incoming.receivedAt,
            body: replyBody(body),
          });
        },
      },
    );
    return () => command.run(commandContext);
  }
}

function answer(incoming: Incoming, interaction: { id: string; token: string }, body: object): Effect {
  return {
    kind: "answer",
    interactionId: interaction.id,
    token: interaction.token,
    at: incoming.receivedAt,
    body,
  };
}

function asPromise(result: void | Promise<void>): Promise<void> | undefined {
  return typeof (result as Promise<void> | undefined)?.then === "function"
    ? (result as Promise<void>)
    : undefined;
}

/** Up to 25 characters (Create Message, `nonce`). */
function nonceOf(incoming: Incoming, index: number): string {
  const dispatch = `${incoming.guildId}/${incoming.session}/${incoming.s}/${index}`;
  return createHash("sha256").update(dispatch).digest("hex").slice(0, 24);
}
