/**
 * The application commands the bot registered, global and per guild, checked as Discord checks them.
 *
 * Invariants: a name is unique per scope and type; bulk overwrite keeps the ids of commands that stay.
 * Application Commands, "Application Command Object". Used by the application routes (write) and by
 * interactions (what can be called in a guild).
 */
import { z } from "zod";
import { LIMITS } from "./limits.js";
import { freshId } from "./snowflake.js";

const CHAT_INPUT = 1;
const NAME = /^[-_'\p{L}\p{N}\p{sc=Deva}\p{sc=Thai}]{1,32}$/u;

const choice = z.looseObject({
  name: z.string().min(1).max(100),
  value: z.union([z.string().max(100), z.number()]),
});

/** An option of a command; subcommands and groups nest. */
export interface CommandOption {
  type: number;
  name: string;
  description: string;
  required?: boolean | undefined;
  choices?: { name: string; value: string | number }[] | undefined;
  min_value?: number | undefined;
  max_value?: number | undefined;
  min_length?: number | undefined;
  max_length?: number | undefined;
  options?: CommandOption[] | undefined;
}

const option: z.ZodType<CommandOption> = z.looseObject({
  type: z.number().int().min(1).max(11),
  name: z.string().regex(NAME),
  description: z.string().min(1).max(100),
  required: z.boolean().optional(),
  choices: z.array(choice).max(LIMITS.optionsPerCommand).optional(),
  min_value: z.number().optional(),
  max_value: z.number().optional(),
  min_length: z.number().int().min(0).max(6_000).optional(),
  max_length: z.number().int().min(1).max(6_000).optional(),
  get options() {
    return z.array(option).max(LIMITS.optionsPerCommand).optional();
  },
});

/** The body that creates a command. */
export const commandBody = z
  .looseObject({
    type: z.number().int().min(1).max(4).default(CHAT_INPUT),
    name: z.string().min(1).max(32),
    description: z.string().max(100).default(""),
    options: z.array(option).max(LIMITS.optionsPerCommand).optional(),
    default_member_permissions: z.string().nullable().default(null),
    nsfw: z.boolean().default(false),
  })
  .refine((command) => command.type !== CHAT_INPUT || NAME.test(command.name), {
    path: ["name"],
    message: "Command name is invalid: lower-case letters, digits, - and _ only.",
  })
  .refine((command) => command.type !== CHAT_INPUT || command.name === command.name.toLowerCase(), {
    path: ["name"],
    message: "Command name is invalid: it must be lower case.",
  })
  .refine((command) => command.type !== CHAT_INPUT || command.description !== "", {
    path: ["description"],
    message: "This field is required",
  });

export type CommandBody = z.output<typeof commandBody>;

export interface Command extends CommandBody {
  readonly id: string;
  readonly application_id: string;
  readonly version: string;
  readonly guild_id?: string;
}

/** What users call as long as the bot has registered nothing. */
const DEFAULT_COMMAND: CommandBody = {
  type: CHAT_INPUT,
  name: "count",
  description: "How many events this server has seen",
  default_member_permissions: null,
  nsfw: false,
};

/** The scope of commands that work in every guild. */
export const GLOBAL = "global";

export class CommandRegistry {
  readonly #scopes = new Map<string, Map<string, Command>>();
  readonly #default: Command;

  constructor(private readonly applicationId: string) {
    this.#default = this.#make(GLOBAL, DEFAULT_COMMAND, freshId());
  }

  list(scope: string): Command[] {
    return [...(this.#scopes.get(scope)?.values() ?? [])];
  }

  find(scope: string, id: string): Command | undefined {
    return this.#scopes.get(scope)?.get(id);
  }

  /** Creates a command, or overwrites the one of the same name and type. */
  upsert(scope: string, body: CommandBody): { command: Command; created: boolean } {
    const old = this.list(scope).find((other) => other.name === body.name && other.type === body.type);
    const command = this.#make(scope, body, old?.id ?? freshId());
    this.#scope(scope).set(command.id, command);
    return { command, created: old === undefined };
  }

  /** Replaces all commands of a scope. */
  overwrite(scope: string, bodies: readonly CommandBody[]): Command[] {
    const old = this.list(scope);
    this.#scopes.delete(scope);
    for (const body of bodies) {
      const same = old.find((other) => other.name === body.name && other.type === body.type);
      const command = this.#make(scope, body, same?.id ?? freshId());
      this.#scope(scope).set(command.id, command);
    }
    return this.list(scope);
  }

  /** Replaces one command, keeping its id. */
  replace(scope: string, id: string, body: CommandBody): Command {
    const command = this.#make(scope, body, id);
    this.#scope(scope).set(id, command);
    return command;
  }

  delete(scope: string, id: string): boolean {
    return this.#scope(scope).delete(id);
  }

  /** The slash commands that users can call in a guild: never empty. */
  callableIn(guildId: string): Command[] {
    const callable = [...this.list(GLOBAL), ...this.list(guildId)].filter((c) => c.type === CHAT_INPUT);
    return callable.length > 0 ? callable : [this.#default];
  }

  #make(scope: string, body: CommandBody, id: string): Command {
    return {
      ...body,
      id,
      application_id: this.applicationId,
      version: freshId(),
      ...(scope !== GLOBAL && { guild_id: scope }),
    };
  }

  #scope(scope: string): Map<string, Command> {
    let commands = this.#scopes.get(scope);
    if (commands === undefined) {
      commands = new Map();
      this.#scopes.set(scope, commands);
    }
    return commands;
  }
}
