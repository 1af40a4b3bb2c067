/**
 * Owns the optional mirror of Discord's entities in guild state (`state.discord`): reducers over a draft, pure.
 *
 * Invariants:
 * - Only whitelisted fields are kept.
 * - A dispatch that changes nothing writes nothing, so it makes no ops: every field is compared first. A GUILD_CREATE
 *   comes for every guild at every new session, nearly always with nothing new.
 * - Entities that vanished while the bot was away go with the next GUILD_CREATE.
 *
 * Used by the worker, before the bot's own handlers.
 */
import type { Mirror, MirroredState } from "./bot.js";

type Fields = Record<string, unknown>;
type Entities = Record<string, Fields>;
type Root = NonNullable<MirroredState["discord"]>;
type Kind = "channels" | "roles" | "members";

/** Applies one dispatch to the draft of a guild's state. */
export type MirrorReducer = (draft: MirroredState, t: string, data: unknown) => void;

/**
 * Whether fields that a dispatch leaves out are gone ("whole") or just not told ("partial"). Discord sends whole
 * objects except in GUILD_UPDATE, which lacks what only GUILD_CREATE has (joined_at, member_count), and
 * GUILD_MEMBER_UPDATE, where all but a few fields are optional (Gateway Events).
 */
type Extent = "whole" | "partial";

/** The reducer for what the bot mirrors; undefined when that is nothing. */
export function mirrorReducers(mirror: Mirror | undefined): MirrorReducer | undefined {
  if (mirror === undefined) return undefined;
  const { guild = [], channels = [], roles = [], members = [] } = mirror;
  const fields = { channels, roles, members };
  if ([guild, channels, roles, members].every((list) => list.length === 0)) return undefined;

  const put = (root: Root, kind: Kind, id: unknown, entity: unknown, extent: Extent): void => {
    if (fields[kind].length === 0 || typeof id !== "string" || !isObject(entity)) return;
    root[kind] ??= {};
    assign(ownOr(root[kind], id), entity, fields[kind], extent);
  };
  const putAll = (root: Root, kind: Kind, list: unknown, mayRemove: boolean): void => {
    if (fields[kind].length === 0 || !Array.isArray(list)) return;
    root[kind] ??= {};
    const seen = new Set<string>();
    for (const entity of list as Fields[]) {
      const id = idOf(kind, entity);
      if (id === undefined) continue;
      seen.add(id);
      put(root, kind, id, entity, "whole");
    }
    if (!mayRemove) return;
    for (const id of Object.keys(root[kind])) if (!seen.has(id)) delete root[kind][id];
  };
  const putGuild = (root: Root, data: Fields, extent: Extent): void => {
    if (guild.length === 0) return;
    root.guild ??= {};
    assign(root.guild, data, guild, extent);
  };

  return (draft, t, data) => {
    if (!isObject(data)) return;
    switch (t) {
      case "GUILD_CREATE": {
        // An outage: the rest of the guild is not there (Gateway Events, "Guild Create").
        if (data.unavailable === true) return;
        const root = rootOf(draft);
        putGuild(root, data, "whole");
        putAll(root, "channels", data.channels, true);
        putAll(root, "roles", data.roles, true);
        // In a large guild, or without the members intent, only some of the members come along.
        const all = Array.isArray(data.members) && data.members.length >= Number(data.member_count);
        putAll(root, "members", data.members, all);
        return;
      }
      case "GUILD_UPDATE": {
        const root = rootOf(draft);
        putGuild(root, data, "partial");
        putAll(root, "roles", data.roles, true);
        return;
      }
      case "GUILD_DELETE":
        // With `unavailable` it is an outage; without, the bot has left.
        if (data.unavailable !== true) delete draft.discord;
        return;
      case "CHANNEL_CREATE":
      case "CHANNEL_UPDATE":
        put(rootOf(draft), "channels", data.id, data, "whole");
        return;
      case "CHANNEL_DELETE":
        remove(draft, "channels", data.id);
        return;
      case "GUILD_ROLE_CREATE":
      case "GUILD_ROLE_UPDATE":
        put(rootOf(draft), "roles", idOf("roles", data.role), data.role, "whole");
        return;
      case "GUILD_ROLE_DELETE":
        remove(draft, "roles", data.role_id);
        return;
      case "GUILD_MEMBER_ADD":
        put(rootOf(draft), "members", idOf("members", data), data, "whole");
        return;
      case "GUILD_MEMBER_UPDATE":
        put(rootOf(draft), "members", idOf("members", data), data, "partial");
        return;
      case "GUILD_MEMBER_REMOVE":
        remove(draft, "members", idOf("members", data));
        return;
    }
  };
}

function rootOf(draft: MirroredState): Root {
  draft.discord ??= {};
  return draft.discord;
}

/** The entity, made when it is not there. */
function ownOr(entities: Entities, id: string): Fields {
  entities[id] ??= {};
  return entities[id];
}

function idOf(kind: Kind, entity: unknown): string | undefined {
  if (!isObject(entity)) return undefined;
  const id = kind === "members" ? (entity.user as Fields | undefined)?.id : entity.id;
  return typeof id === "string" ? id : undefined;
}

function remove(draft: MirroredState, kind: Kind, id: unknown): void {
  const entities = draft.discord?.[kind];
  if (entities !== undefined && typeof id === "string" && id in entities) delete entities[id];
}

function assign(target: Fields, source: Fields, fields: readonly string[], extent: Extent): void {
  for (const field of fields) {
    const value = source[field];
    if (value !== undefined) {
      if (!isSame(target[field], value)) target[field] = value;
    } else if (extent === "whole" && field in target) {
      delete target[field];
    }
  }
}

function isObject(value: unknown): value is Fields {
  return typeof value === "object" && value !== null;
}

/** Equality of JSON values, whatever the order of the keys. */
function isSame(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (!isObject(a) || !isObject(b) || Array.isArray(a) !== Array.isArray(b)) return false;
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => key in b && isSame(a[key], b[key]));
}
