/**
 * Request Guild Members (op 8) and the member search of REST: the same members, cut into chunks.
 *
 * Gateway Events, "Request Guild Members". Used by handshake.ts and the guild routes.
 */
import type { APIGuildMember } from "discord-api-types/v10";
import { z } from "zod";
import { LIMITS } from "./limits.js";
import type { World } from "./world.js";

export const memberRequest = z.object({
  guild_id: z.string(),
  query: z.string().optional(),
  limit: z.number().int().min(0).default(0),
  user_ids: z.union([z.string(), z.array(z.string()).max(LIMITS.membersPerQuery)]).optional(),
  nonce: z.string().optional(),
});

/** The payloads of GUILD_MEMBERS_CHUNK that answer a request; at least one. */
export function memberChunks(world: World, guild: number, request: z.output<typeof memberRequest>) {
  const { members, not_found } =
    request.user_ids === undefined
      ? { members: searchMembers(world, guild, request.query ?? "", request.limit), not_found: [] }
      : membersById(world, guild, [request.user_ids].flat());
  const chunkCount = Math.max(1, Math.ceil(members.length / LIMITS.membersPerChunk));
  return Array.from({ length: chunkCount }, (_, chunk_index) => ({
    guild_id: request.guild_id,
    members: members.slice(chunk_index * LIMITS.membersPerChunk, (chunk_index + 1) * LIMITS.membersPerChunk),
    chunk_index,
    chunk_count: chunkCount,
    ...(not_found.length > 0 && { not_found }),
    ...(request.nonce !== undefined && { nonce: request.nonce }),
  }));
}

/** Members whose name or nickname starts with `query`; a limit of 0 with no query means all. */
export function searchMembers(world: World, guild: number, query: string, limit: number): APIGuildMember[] {
  const found: APIGuildMember[] = [];
  const max = limit > 0 ? limit : query === "" ? Number.POSITIVE_INFINITY : LIMITS.membersPerQuery;
  const wanted = query.toLowerCase();
  for (let number = 0; number < world.memberCount(guild) && found.length < max; number++) {
    const member = world.member(guild, world.memberAt(guild, number));
    const names = [member.user.username, member.nick ?? "", member.user.global_name ?? ""];
    if (names.some((name) => name.toLowerCase().startsWith(wanted))) found.push(member);
  }
  return found;
}

function membersById(world: World, guild: number, ids: string[]) {
  const members: APIGuildMember[] = [];
  const not_found: string[] = [];
  for (const id of ids) {
    const user = world.userIndex(id);
    if (user >= 0 && world.isMember(guild, user)) members.push(world.member(guild, user));
    else not_found.push(id);
  }
  return { members, not_found };
}
