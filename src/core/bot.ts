/**
 * Owns what a bot is: the shape that `defineBot` takes, typed end to end. Pure; the worker runs it.
 *
 * A handler gets the guild's state as a draft to mutate. Its mutations, its effects and the dispatch's place in the
 * session become one event, or, when it throws, nothing at all.
 */
import type {
  APIInteraction,
  APIInteractionResponseCallbackData,
  GatewayDispatchPayload,
  RESTPostAPIChannelMessageJSONBody,
  RESTPostAPIChatInputApplicationCommandsJSONBody,
} from "discord-api-types/v10";
import { GuildstreamError } from "./errors.js";

/** The data of every dispatch by its name. */
type DispatchDataByName = { [P in GatewayDispatchPayload as `${P["t"]}`]: P["d"] };

/** Discord's event name of a dispatch, as in the Gateway Events reference. */
export type DispatchName = keyof DispatchDataByName;

/** The data of the dispatch with that name. */
export type DispatchData<Name extends DispatchName> = DispatchDataByName[Name];

export interface Logger {
  debug(fields: object, message?: string): void;
  info(fields: object, message?: string): void;
  warn(fields: object, message?: string): void;
  error(fields: object, message?: string): void;
}

/** Discord's REST API for reads and for what may happen twice; `reply` and `send` are the exactly-once way. */
export interface RestClient {
  get(route: `/${string}`): Promise<unknown>;
  post(route: `/${string}`, options?: { body?: unknown }): Promise<unknown>;
  put(route: `/${string}`, options?: { body?: unknown }): Promise<unknown>;
  patch(route: `/${string}`, options?: { body?: unknown }): Promise<unknown>;
  delete(route: `/${string}`): Promise<unknown>;
}

interface Common {
  readonly shard: number;
  readonly log: Logger;
  readonly rest: RestClient;
  /**
   * Sends a message to a channel once the mutation is in the log.
   * Sent again after a crash in between, with the same nonce, so Discord keeps one (Create Message, `enforce_nonce`).
   */
  send(channelId: string, body: RESTPostAPIChannelMessageJSONBody | string): void;
}

/** What a handler of a guild's dispatch gets. */
export interface GuildContext<State, Name extends DispatchName = DispatchName> extends Common {
  readonly guildId: string;
  /** The guild's state, as a draft: mutate it; plain JSON only. Gone once the handler has returned. */
  readonly state: State;
  readonly t: Name;
  readonly data: DispatchData<Name>;
}

/** What a handler of a dispatch without a guild gets (a DM, say). */
export interface DirectContext<Name extends DispatchName = DispatchName> extends Common {
  readonly guildId: undefined;
  readonly state: undefined;
  readonly t: Name;
  readonly data: DispatchData<Name>;
}

export type ReplyBody = APIInteractionResponseCallbackData | string;

/** What a command's handler gets; `reply` or `defer` once, `followUp` as often as needed within 15 minutes. */
export interface CommandContext<State> extends GuildContext<State, "INTERACTION_CREATE"> {
  readonly interaction: APIInteraction;
  /** The user who asked. */
  readonly userId: string;
  /** The options by name, resolved to their plain values; a subcommand's options are lifted up. */
  readonly options: Readonly<Record<string, string | number | boolean | undefined>>;
  readonly subcommand: string | undefined;
  reply(body: ReplyBody): void;
  defer(options?: { ephemeral?: boolean }): void;
  followUp(body: ReplyBody): void;
}

type MaybePromise<T> = T | Promise<T>;

/** A slash command: Discord's own definition beside the handler. */
export interface Command<State> {
  definition: Omit<RESTPostAPIChatInputApplicationCommandsJSONBody, "name"> & { name?: string };
  run(context: CommandContext<State>): MaybePromise<void>;
}

type GuildHandlers<State> = {
  [Name in DispatchName]?: (context: GuildContext<State, Name>) => MaybePromise<void>;
};

/** Which of Discord's entities are mirrored into the guild's state, and which fields of each. */
export interface Mirror {
  guild?: readonly string[];
  channels?: readonly string[];
  roles?: readonly string[];
  members?: readonly string[];
}

/** Where the mirror lives in the state: `state.discord`. */
export interface MirroredState {
  discord?: {
    guild?: Record<string, unknown>;
    channels?: Record<string, Record<string, unknown>>;
    roles?: Record<string, Record<string, unknown>>;
    members?: Record<string, Record<string, unknown>>;
  };
}

export interface Bot<State extends object> {
  /** Names the bot in status and logs; a worker of another bot is refused a handoff. */
  name: string;
  /** Gateway intents, as a bit field (Discord Gateway documentation, "Gateway Intents"). */
  intents: number;
  state: {
    version: number;
    /** The state of a guild that the log does not know. */
    initial(guildId: string): State;
    /** Brings an older version's state to this one; called once a version, on load. */
    migrate?(state: unknown, fromVersion: number): State;
  };
  commands?: Record<string, Command<State>>;
  on?: GuildHandlers<State>;
  /** Called for every dispatch of a guild, before the handler of its name. */
  onAny?(context: GuildContext<State>): MaybePromise<void>;
  /** Called for dispatches without a guild. */
  onDirect?(context: DirectContext): MaybePromise<void>;
  mirror?: Mirror;
}

// biome-ignore lint/suspicious/noExplicitAny: a bot's own state type does not matter to what runs it.
export type AnyBot = Bot<any>;

/**
 * Declares a bot; the types of state, dispatches and commands follow from it.
 * @throws GuildstreamError BOT_INVALID with the field that is wrong.
 */
export function defineBot<State extends object>(bot: Bot<State>): Bot<State> {
  validateBot(bot);
  return bot;
}

/** What `defineBot` demands, also of plain objects that a JavaScript file exports. */
export function validateBot(value: unknown): asserts value is AnyBot {
  const bot = value as Partial<AnyBot> | null | undefined;
  const demand = (condition: boolean, what: string): void => {
    if (condition) return;
    throw new GuildstreamError("BOT_INVALID", `the bot is not valid: ${what}`, {
      hint: "export default defineBot({ name, intents, state: { version, initial }, on, commands })",
    });
  };
  demand(typeof bot === "object" && bot !== null, "it must be an object");
  demand(typeof bot!.name === "string" && bot!.name !== "", "name must be a text");
  demand(Number.isSafeInteger(bot!.intents) && bot!.intents! >= 0, "intents must be a whole number");
  demand(typeof bot!.state === "object" && bot!.state !== null, "state must be { version, initial }");
  demand(
    Number.isSafeInteger(bot!.state!.version) && bot!.state!.version > 0,
    "state.version must be 1 or more",
  );
  demand(typeof bot!.state!.initial === "function", "state.initial must be a function");
  const migrate = bot!.state!.migrate;
  demand(migrate === undefined || typeof migrate === "function", "state.migrate must be a function");
  for (const [name, handler] of Object.entries(bot!.on ?? {})) {
    demand(typeof handler === "function", `on.${name} must be a function`);
  }
  for (const [name, command] of Object.entries(bot!.commands ?? {})) {
    demand(/^[-_\p{L}\p{N}]{1,32}$/u.test(name), `command "${name}" must be 1 to 32 letters, digits, - or _`);
    demand(typeof command?.run === "function", `commands.${name}.run must be a function`);
    demand(typeof command?.definition === "object", `commands.${name}.definition must be an object`);
  }
  demand(bot!.onAny === undefined || typeof bot!.onAny === "function", "onAny must be a function");
  demand(bot!.onDirect === undefined || typeof bot!.onDirect === "function", "onDirect must be a function");
}
