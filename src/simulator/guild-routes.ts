/**
 * Routes that read guilds: the guild, its channels, roles and members, as the dispatches told them.
 *
 * Documentation: Guild, Channel. Used by rest.ts.
 */
import { searchMembers } from "./member-requests.js";
import { ApiError, notFound, type RestRequest, type Route } from "./rest-api.js";
import type { World } from "./world.js";

const UNKNOWN_GUILD = 10004;
const UNKNOWN_MEMBER = 10007;
const UNKNOWN_ROLE = 10011;
const UNKNOWN_CHANNEL = 10003;

const bucket = { limit: 10, windowMs: 1_000 };

function findGuild({ simulation: { world }, params }: RestRequest): number {
  const guild = world.guildIndex(params.guildId!);
  if (guild < 0 || world.status(guild) === "left") throw notFound(UNKNOWN_GUILD, "Guild");
  return guild;
}

function findMember(world: World, guild: number, userId: string) {
  if (userId === world.botUser.id) return world.botMember(guild);
  const user = world.userIndex(userId);
  if (user < 0) throw notFound(10013, "User");
  if (!world.isMember(guild, user)) throw notFound(UNKNOWN_MEMBER, "Member");
  return world.member(guild, user);
}

/** A whole number of a query string within bounds. */
function numberFrom(
  query: URLSearchParams,
  name: string,
  fallback: number,
  min: number,
  max: number,
): number {
  const text = query.get(name);
  if (text === null) return fallback;
  const value = Number(text);
  if (Number.isInteger(value) && value >= min && value <= max) return value;
  const error = { code: "NUMBER_TYPE_COERCE", message: `Must be a whole number from ${min} to ${max}.` };
  throw new ApiError(400, 50035, "Invalid Form Body", { [name]: { _errors: [error] } });
}

/** Turns a reader of one guild into a route. */
function read(path: string, make: (world: World, guild: number, request: RestRequest) => unknown): Route {
  return {
    method: "GET",
    path,
    bucket,
    handle: (request) => ({
      status: 200,
      body: make(request.simulation.world, findGuild(request), request),
    }),
  };
}

export const guildRoutes: readonly Route[] = [
  read("/guilds/:guildId", (world, guild, { query }) => {
    const { channels, threads, members, voice_states, presences, joined_at, large, member_count, ...rest } =
      world.guildCreate(guild);
    if (query.get("with_counts") !== "true") return rest;
    const counts = { approximate_member_count: member_count, approximate_presence_count: member_count >> 2 };
    return { ...rest, ...counts };
  }),
  read("/guilds/:guildId/channels", (world, guild) =>
    world.channels(guild).map((channel) => ({ ...channel, guild_id: world.guildId(guild) })),
  ),
  read("/guilds/:guildId/roles", (world, guild) => world.roles(guild)),
  read("/guilds/:guildId/roles/:roleId", (world, guild, { params }) => {
    const role = world.roles(guild).find(({ id }) => id === params.roleId);
    if (role === undefined) throw notFound(UNKNOWN_ROLE, "Role");
    return role;
  }),
  read("/guilds/:guildId/members", (world, guild, { query }) => {
    const limit = numberFrom(query, "limit", 1, 1, 1_000);
    const after = BigInt(/^\d{1,20}$/.exec(query.get("after") ?? "0")?.[0] ?? "0");
    return searchMembers(world, guild, "", 0)
      .filter(({ user }) => BigInt(user.id) > after)
      .sort((a, b) => (BigInt(a.user.id) < BigInt(b.user.id) ? -1 : 1))
      .slice(0, limit);
  }),
  read("/guilds/:guildId/members/search", (world, guild, { query }) =>
    searchMembers(world, guild, query.get("query") ?? "", numberFrom(query, "limit", 1, 1, 1_000)),
  ),
  read("/guilds/:guildId/members/:userId", (world, guild, { params }) =>
    findMember(world, guild, params.userId!),
  ),
  {
    method: "GET",
    path: "/channels/:channelId",
    bucket,
    handle: ({ simulation: { world }, params }) => {
      const found = world.findChannel(params.channelId!);
      if (found === null || world.status(found.guild) === "left") throw notFound(UNKNOWN_CHANNEL, "Channel");
      return { status: 200, body: { ...found.channel, guild_id: world.guildId(found.guild) } };
    },
  },
];
