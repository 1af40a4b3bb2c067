/**
 * The control of the simulator over HTTP, under /control, for callers on the same machine only.
 *
 * Invariants: reading changes nothing; a wrong body changes nothing and is answered 400 with what it
 * has to be. Not part of Discord. Used by index.ts; the endpoints are listed in `ENDPOINTS`.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { InteractionType } from "discord-api-types/v10";
import { z } from "zod";
import { type Faults, faultSchema } from "./faults.js";
import { readBody, sendJson } from "./http-body.js";
import { commandData, type OptionValue, sendInteraction } from "./interaction-payload.js";
import { GUILD_SHAPE, LIMITS } from "./limits.js";
import { describeIssues } from "./options.js";
import type { Reports } from "./reports.js";
import { ApiError } from "./rest-api.js";
import type { Simulation } from "./simulation.js";
import { freshId } from "./snowflake.js";
import type { Traffic } from "./traffic.js";

const ENDPOINTS = [
  "GET /control/ledger",
  "GET /control/stats",
  "GET /control/guilds",
  "GET /control/interactions/:id",
  "POST /control/traffic {ratePerSecond?, running?}",
  "POST /control/dispatch {guildId, t, d?}",
  "POST /control/interaction {guildId, name, kind?, options?, messageId?, fields?}",
  "POST /control/fault {kind, ...}",
];

const snowflake = z.string().regex(/^\d{1,20}$/, "must be a snowflake: a string of digits");

const trafficSchema = z.strictObject({
  ratePerSecond: z.number().min(0).max(LIMITS.ratePerSecondMax).optional(),
  running: z.boolean().optional(),
});

const dispatchSchema = z.strictObject({
  guildId: z.union([snowflake, z.literal("dm")]),
  t: z.string().regex(/^[A-Z][A-Z_]*$/, "must be the name of a dispatch, such as MESSAGE_CREATE"),
  d: z.looseObject({}).default({}),
});

const value = z.union([z.string(), z.number(), z.boolean()]);
const optionValue: z.ZodType<OptionValue> = z.strictObject({
  name: z.string(),
  type: z.number().int().min(1).max(11),
  value: value.optional(),
  focused: z.boolean().optional(),
  get options() {
    return z.array(optionValue).optional();
  },
});

const interactionSchema = z.strictObject({
  guildId: snowflake,
  /** A registered command's name, or the custom id of a component or modal. */
  name: z.string().min(1).max(100),
  kind: z.enum(["command", "autocomplete", "component", "modal"]).default("command"),
  /** Values by option name, or options as an interaction carries them (needed for subcommands). */
  options: z.union([z.array(optionValue), z.record(z.string(), value)]).default([]),
  /** The bot's message that a component sits on. */
  messageId: snowflake.optional(),
  /** A modal's text inputs by custom id. */
  fields: z.record(z.string(), z.string()).default({}),
});

const JS_OPTION_TYPES: Readonly<Record<string, number>> = { string: 3, number: 10, boolean: 5 };

export class Control {
  constructor(
    private readonly simulation: Simulation,
    private readonly traffic: Traffic,
    private readonly reports: Reports,
    private readonly faults: Faults,
  ) {}

  /** Answers a request whose path begins with /control. */
  async handle(request: IncomingMessage, response: ServerResponse, url: URL): Promise<void> {
    try {
      const body = await readBody(request, LIMITS.controlBodyBytes);
      if (!isLoopback(request)) throw new ApiError(403, 0, "/control answers only on the machine itself");
      sendJson(response, 200, this.#answer(`${request.method} ${url.pathname}`, body.json));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      sendJson(response, error.status, { message: error.message });
    }
  }

  #answer(endpoint: string, body: unknown): unknown {
    const interactionId = /^GET \/control\/interactions\/(\d+)$/.exec(endpoint)?.[1];
    if (interactionId !== undefined) return this.#interaction(interactionId);
    switch (endpoint) {
      case "GET /control/ledger":
        return this.reports.ledger();
      case "GET /control/stats":
        return this.reports.stats();
      case "GET /control/guilds":
        return this.#guilds();
      case "POST /control/traffic":
        return this.#setTraffic(parse(trafficSchema, body));
      case "POST /control/dispatch":
        return this.#dispatch(parse(dispatchSchema, body));
      case "POST /control/interaction":
        return this.#sendInteraction(parse(interactionSchema, body));
      case "POST /control/fault":
        return this.#injectFault(parse(faultSchema, body));
      default:
        throw new ApiError(404, 0, `no endpoint ${endpoint}; there are: ${ENDPOINTS.join(", ")}`);
    }
  }

  #guilds() {
    const { world } = this.simulation;
    return Array.from({ length: world.size }, (_, guild) => ({
      id: world.guildId(guild),
      status: world.status(guild),
      memberCount: world.memberCount(guild),
    }));
  }

  #interaction(id: string) {
    const found = this.simulation.interactions.find(id);
    if (found === undefined) throw new ApiError(404, 0, `no interaction ${id} is known (any more)`);
    const { token: _secret, originalMessageId, ...shown } = found;
    const message = this.simulation.messages.find(originalMessageId ?? "")?.message ?? null;
    return { ...shown, originalMessageId, message };
  }

  #setTraffic({ ratePerSecond, running }: z.output<typeof trafficSchema>) {
    if (ratePerSecond !== undefined) this.traffic.setRate(ratePerSecond);
    if (running === true) this.traffic.start();
    if (running === false) this.traffic.stop();
    const { totals, interactions } = this.reports.ledger();
    return {
      running: this.traffic.running,
      ratePerSecond: this.traffic.ratePerSecond,
      totals,
      interactions,
    };
  }

  /** Without `d` a plausible payload is sent; `id` is filled in where it is missing. */
  #dispatch({ guildId, t, d }: z.output<typeof dispatchSchema>) {
    const { world } = this.simulation;
    const guild = guildId === "dm" ? -1 : this.#findGuild(guildId);
    const id = typeof d.id === "string" ? d.id : freshId();
    const author = { author: world.user(guild < 0 ? 0 : world.memberAt(guild, 0)) };
    const payload = {
      ...(guild >= 0 && {
        guild_id: guildId,
        channel_id: world.channelId(guild, GUILD_SHAPE.categories + 1),
      }),
      ...(t.startsWith("MESSAGE_") && { ...author, content: "", mentions: [], attachments: [], embeds: [] }),
      ...d,
      id: t.startsWith("GUILD_") && guild >= 0 && d.id === undefined ? guildId : id,
    };
    return { sent: this.simulation.dispatch(guild, t, payload), id: payload.id };
  }

  #sendInteraction(request: z.output<typeof interactionSchema>) {
    const { world, commands, messages } = this.simulation;
    const guild = this.#findGuild(request.guildId);
    const stored = request.messageId === undefined ? undefined : messages.find(request.messageId);
    if (request.messageId !== undefined && stored === undefined) {
      throw new ApiError(400, 0, `messageId: the bot has written no message ${request.messageId}`);
    }
    const base = {
      guild,
      channelId: stored?.message.channel_id ?? world.channelId(guild, GUILD_SHAPE.categories + 1),
      user: world.memberAt(guild, 0),
      name: request.name,
    };
    if (request.kind === "component") {
      const data = { custom_id: request.name, component_type: 2 };
      const message = stored?.message ?? { id: freshId() };
      return this.#sent({ ...base, type: InteractionType.MessageComponent, data, message });
    }
    if (request.kind === "modal") {
      const components = Object.entries(request.fields).map(([custom_id, text]) => ({
        type: 1,
        components: [{ type: 4, custom_id, value: text }],
      }));
      const data = { custom_id: request.name, components };
      return this.#sent({ ...base, type: InteractionType.ModalSubmit, data });
    }
    const callable = commands.callableIn(request.guildId);
    const command = callable.find(({ name }) => name === request.name);
    if (command === undefined) {
      const names = callable.map(({ name }) => name).join(", ");
      throw new ApiError(400, 0, `name: no command "${request.name}" in this guild; there are: ${names}`);
    }
    const options = Array.isArray(request.options)
      ? request.options
      : Object.entries(request.options).map(([name, given]) => ({
          name,
          type: command.options?.find((o) => o.name === name)?.type ?? JS_OPTION_TYPES[typeof given]!,
          value: given,
        }));
    const type =
      request.kind === "command"
        ? InteractionType.ApplicationCommand
        : InteractionType.ApplicationCommandAutocomplete;
    return this.#sent({ ...base, type, data: commandData(this.simulation, guild, command, options) });
  }

  #sent(request: Parameters<typeof sendInteraction>[1]) {
    const id = sendInteraction(this.simulation, request);
    return { sent: id !== null, id };
  }

  #injectFault(fault: z.output<typeof faultSchema>) {
    try {
      return { hit: this.faults.inject(fault) };
    } catch (error) {
      if (error instanceof RangeError) throw new ApiError(400, 0, error.message);
      throw error;
    }
  }

  #findGuild(guildId: string): number {
    const guild = this.simulation.world.guildIndex(guildId);
    if (guild < 0) throw new ApiError(400, 0, `guildId: the world has no guild ${guildId}`);
    return guild;
  }
}

function parse<S extends z.ZodType>(schema: S, body: unknown): z.output<S> {
  const parsed = schema.safeParse(body ?? {});
  if (parsed.success) return parsed.data;
  throw new ApiError(400, 0, describeIssues(parsed.error));
}

function isLoopback(request: IncomingMessage): boolean {
  const address = request.socket.remoteAddress ?? "";
  return address === "::1" || /^(::ffff:)?127\./.test(address);
}
