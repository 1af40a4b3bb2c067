/**
 * Owns opening a stored state for this bot's code: initial for a new guild, migrated from an older version, refused
 * by name from a newer one. The version is kept in the state itself, under `$version`.
 */
import type { AnyBot } from "../core/bot.js";
import { GuildstreamError } from "../core/errors.js";

export const versionKey = "$version";

export interface OpenedState {
  state: object;
  /** The log does not have this state yet: the next event carries it whole. */
  changed: boolean;
  bytes: number;
}

/** @throws GuildstreamError STATE_VERSION when newer code wrote it, or when there is no way from the older version. */
export function openState(bot: AnyBot, guildId: string, stored: unknown): OpenedState {
  const version = bot.state.version;
  if (stored === undefined || stored === null) return fresh(bot, guildId);
  if (typeof stored !== "object" || Array.isArray(stored)) {
    throw new GuildstreamError("STATE_VERSION", `the state of guild ${guildId} is not an object`);
  }
  const found = Number((stored as Record<string, unknown>)[versionKey] ?? 1);
  if (found === version) return { state: stored, changed: false, bytes: byteLength(stored) };
  if (found > version) {
    throw new GuildstreamError(
      "STATE_VERSION",
      `guild ${guildId} has state version ${found}, this bot ${version}`,
      {
        hint: "newer code wrote it: run that code, this one would damage it",
      },
    );
  }
  if (bot.state.migrate === undefined) {
    throw new GuildstreamError(
      "STATE_VERSION",
      `guild ${guildId} has state version ${found}, this bot ${version}`,
      {
        hint: "give the bot state.migrate(state, fromVersion)",
      },
    );
  }
  const { [versionKey]: _, ...rest } = structuredClone(stored) as Record<string, unknown>;
  const migrated = { [versionKey]: version, ...(bot.state.migrate(rest, found) as object) };
  return { state: migrated, changed: true, bytes: byteLength(migrated) };
}

function fresh(bot: AnyBot, guildId: string): OpenedState {
  const state = { [versionKey]: bot.state.version, ...(bot.state.initial(guildId) as object) };
  return { state, changed: true, bytes: byteLength(state) };
}

function byteLength(state: object): number {
  return Buffer.byteLength(JSON.stringify(state));
}
