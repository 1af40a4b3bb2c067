/**
 * Owns the list of what a guild needs from the worker around it, and making it of the worker's parts.
 */
import type { AnyBot, Logger } from "../core/bot.js";
import type { GuildDocument } from "../core/document.js";
import type { Effect } from "../core/event.js";
import { limits } from "../core/limits.js";
import type { DiscordRest } from "../discord/rest.js";
import type { GuildLog } from "../nats/guild-log.js";
import { Effects } from "./effects.js";
import type { Guild } from "./guild.js";
import { Handlers } from "./handlers.js";
import type { Work } from "./work.js";

/** Totals since the process started, as the worker's entry in the list-server shows them. */
export interface Counters {
  dispatches: number;
  handled: number;
  skipped: number;
  appended: number;
  handlerErrors: number;
  effectsSent: number;
  effectsDropped: number;
  fenced: number;
}

export function zeroCounters(): Counters {
  return {
    dispatches: 0,
    handled: 0,
    skipped: 0,
    appended: 0,
    handlerErrors: 0,
    effectsSent: 0,
    effectsDropped: 0,
    fenced: 0,
  };
}

export interface GuildServices {
  readonly bot: AnyBot;
  readonly handlers: Handlers;
  readonly guildLog: GuildLog;
  readonly log: Logger;
  readonly counters: Counters;
  now(): number;
  load(guildId: string, subject: string): Promise<GuildDocument>;
  /** Sends effects in order; resolves when each is sent, refused or dropped visibly. Never rejects. */
  send(effects: readonly Effect[], t: string): Promise<void>;
  /** Sends once more what the guild's events since this replayed dispatch were to send. Never rejects. */
  resend(subject: string, lastSeq: number, since: Work): Promise<void>;
  appended(guildId: string, seq: number): void;
  /** A guild's state takes so many bytes more, or fewer. */
  resized(deltaBytes: number): void;
  /** Whether there is room for another append; if not, the guild is called back when there is. */
  mayAppend(guild: Guild): boolean;
  /** The shard that Discord delivers the guild to. */
  shardOf(guildId: string): number;
  /** Whether the list says that this worker serves the guild. */
  isOurs(guildId: string): boolean;
  /** The guild is another worker's now: forget it. */
  abandon(guild: Guild): void;
  stateMaxBytes(): number;
  later(run: () => void): void;
}

/** What a guild needs, made of the worker's parts; the table of guilds adds its own. */
export function guildServices(
  parts: Pick<
    GuildServices,
    "bot" | "guildLog" | "log" | "counters" | "load" | "appended" | "shardOf" | "isOurs"
  > & {
    rest: DiscordRest;
  },
): Omit<GuildServices, "mayAppend" | "abandon" | "resized"> {
  const { rest, ...services } = parts;
  const { bot, guildLog, log, counters } = services;
  const effects = new Effects(rest, guildLog, counters, log);
  return {
    ...services,
    handlers: new Handlers(bot, rest.client, log),
    now: () => performance.now(),
    send: (list) => effects.send(list),
    resend: (...args) => effects.resend(...args),
    appended: (guildId, seq) => {
      counters.appended += 1;
      services.appended(guildId, seq);
    },
    stateMaxBytes: () => guildLog.maxPayloadBytes - limits.messageHeadroomBytes,
    later: (run) => void setTimeout(run, limits.guildLoadRetryMs),
  };
}
