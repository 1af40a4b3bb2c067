/**
 * What a client may ask of the gateway: IDENTIFY, RESUME and, once it has a session, requests.
 *
 * Each handler either does what was asked or closes with the code Discord documents for the mistake
 * (Gateway, "Gateway Close Event Codes"). Called by connection.ts only.
 */
import { GatewayCloseCodes, GatewayIntentBits, GatewayOpcodes } from "discord-api-types/v10";
import { z } from "zod";
import type { Connection } from "./connection.js";
import { ALL_INTENTS } from "./intents.js";
import { LIMITS } from "./limits.js";
import { memberChunks, memberRequest } from "./member-requests.js";
import type { Simulation } from "./simulation.js";
import { PrivateEvent } from "./world-event.js";

const identifySchema = z.object({
  token: z.string(),
  properties: z.record(z.string(), z.unknown()),
  intents: z.number().int().min(0),
  shard: z.tuple([z.number().int(), z.number().int()]).optional(),
  large_threshold: z.number().int().min(50).max(250).default(50),
});

const resumeSchema = z.object({
  token: z.string(),
  session_id: z.string(),
  seq: z.number().int().min(0),
});

const voiceSchema = z.object({ guild_id: z.string(), channel_id: z.string().nullable() });

const soundsSchema = z.object({ guild_ids: z.array(z.string()) });

/** Starts a session: READY, then a GUILD_CREATE for each of the shard's guilds. */
export function handleIdentify(connection: Connection, d: unknown): void {
  if (connection.session !== null) {
    connection.close(GatewayCloseCodes.AlreadyAuthenticated, "Already authenticated.");
    return;
  }
  const parsed = identifySchema.safeParse(d);
  if (!parsed.success) {
    connection.close(GatewayCloseCodes.DecodeError, "Error while decoding payload.");
    return;
  }
  const { simulation } = connection;
  const { token, intents, shard = [0, 1] as [number, number], large_threshold } = parsed.data;
  const refusal = refuseIdentify(simulation, token, intents, shard);
  if (refusal !== null) {
    connection.close(...refusal);
    return;
  }
  switch (simulation.identifyBudget.spend(shard[0])) {
    case "tooSoon":
      simulation.counters.identifiesTooSoon++;
      connection.invalidate(false);
      return;
    case "exhausted":
      // Discord resets the bot's token when the limit is overrun; the next word is the same.
      simulation.counters.identifiesOverLimit++;
      connection.close(GatewayCloseCodes.AuthenticationFailed, "Session start limit exceeded.");
      return;
    case "allowed":
      simulation.counters.identifies++;
  }
  const session = simulation.sessions.open({
    shard,
    intents,
    largeThreshold: large_threshold,
    window: simulation.options.replayWindow,
  });
  connection.attach(session, 0);
  const { world } = simulation;
  const guilds: number[] = [];
  for (let guild = 0; guild < world.size; guild++) {
    if (simulation.isOnShard(guild, shard) && world.status(guild) !== "left") guilds.push(guild);
  }
  session.widen(guilds.length + 1);
  session.push(
    new PrivateEvent("READY", () => readyPayload(connection, session.identity.id, shard, guilds), true),
  );
  if ((intents & GatewayIntentBits.Guilds) === 0) return;
  const members = (intents & GatewayIntentBits.GuildPresences) === 0 ? 0 : large_threshold;
  for (const guild of guilds) {
    if (world.status(guild) === "outage") continue;
    session.push(new PrivateEvent("GUILD_CREATE", () => world.guildCreate(guild, members)));
  }
}

/** Continues a session after the sequence the client has: replay, then RESUMED. */
export function handleResume(connection: Connection, d: unknown): void {
  if (connection.session !== null) {
    connection.close(GatewayCloseCodes.AlreadyAuthenticated, "Already authenticated.");
    return;
  }
  const parsed = resumeSchema.safeParse(d);
  if (!parsed.success) {
    connection.close(GatewayCloseCodes.DecodeError, "Error while decoding payload.");
    return;
  }
  const { simulation } = connection;
  const { token, session_id, seq } = parsed.data;
  if (!isToken(simulation, token)) {
    connection.close(GatewayCloseCodes.AuthenticationFailed, "Authentication failed.");
    return;
  }
  const session = simulation.sessions.find(session_id);
  if (session === undefined) {
    simulation.counters.resumesFailed++;
    connection.invalidate(false);
    return;
  }
  if (seq > session.s) {
    simulation.counters.resumesFailed++;
    connection.close(GatewayCloseCodes.InvalidSeq, "Invalid seq.");
    return;
  }
  session.told(seq);
  if (seq < session.oldestResumable) {
    simulation.counters.resumesFailed++;
    session.connection?.surrender();
    simulation.sessions.end(session, "windowExceeded");
    connection.invalidate(false);
    return;
  }
  simulation.counters.resumes++;
  session.connection?.surrender();
  connection.attach(session, seq);
  session.push(new PrivateEvent("RESUMED", () => ({ _trace: [] }), true));
}

/** Everything a client with a session may send beside heartbeats. */
export function handleRequest(connection: Connection, op: GatewayOpcodes, d: unknown): void {
  const { session, simulation } = connection;
  if (session === null) {
    connection.close(GatewayCloseCodes.NotAuthenticated, "Not authenticated.");
    return;
  }
  // Presences are not simulated: an update is accepted and has no effect.
  if (op === GatewayOpcodes.PresenceUpdate) return;
  if (op === GatewayOpcodes.RequestGuildMembers) {
    const parsed = memberRequest.safeParse(d);
    if (!parsed.success) {
      connection.close(GatewayCloseCodes.DecodeError, parsed.error.message);
      return;
    }
    const guild = shardGuild(connection, parsed.data.guild_id);
    if (guild < 0) return;
    for (const chunk of memberChunks(simulation.world, guild, parsed.data)) {
      session.push(new PrivateEvent("GUILD_MEMBERS_CHUNK", () => chunk));
    }
    return;
  }
  if (op === GatewayOpcodes.VoiceStateUpdate) {
    const parsed = voiceSchema.safeParse(d);
    if (!parsed.success) {
      connection.close(GatewayCloseCodes.DecodeError, "Invalid voice state.");
      return;
    }
    const { guild_id, channel_id } = parsed.data;
    if (shardGuild(connection, guild_id) < 0) return;
    const state = { guild_id, channel_id, user_id: simulation.world.botUser.id, ...VOICE_FLAGS };
    session.push(new PrivateEvent("VOICE_STATE_UPDATE", () => state));
    return;
  }
  const parsed = soundsSchema.safeParse(d);
  if (!parsed.success) {
    connection.close(GatewayCloseCodes.DecodeError, "Invalid guild_ids.");
    return;
  }
  for (const guild_id of parsed.data.guild_ids) {
    if (shardGuild(connection, guild_id) < 0) continue;
    session.push(new PrivateEvent("SOUNDBOARD_SOUNDS", () => ({ guild_id, soundboard_sounds: [] })));
  }
}

const VOICE_FLAGS = {
  session_id: "simulated",
  deaf: false,
  mute: false,
  self_deaf: false,
  self_mute: false,
  self_video: false,
  suppress: false,
  request_to_speak_timestamp: null,
};

/** The guild's index if the session's shard has it and the bot sees it, else -1. */
function shardGuild(connection: Connection, guildId: string): number {
  const { simulation, session } = connection;
  const guild = simulation.world.guildIndex(guildId);
  if (guild < 0 || simulation.world.status(guild) !== "joined") return -1;
  return simulation.isOnShard(guild, session!.identity.shard) ? guild : -1;
}

/** Why an IDENTIFY is refused: close code and reason, or null. */
function refuseIdentify(
  simulation: Simulation,
  token: string,
  intents: number,
  [id, count]: [number, number],
): [code: number, reason: string] | null {
  const { options } = simulation;
  if (!isToken(simulation, token)) {
    return [GatewayCloseCodes.AuthenticationFailed, "Authentication failed."];
  }
  if (id < 0 || count < 1 || id >= count || count > LIMITS.guildsMax) {
    return [GatewayCloseCodes.InvalidShard, "Invalid shard."];
  }
  // Whoever starts a simulator with fewer shards than Discord would allow means it.
  const guildsPerShard = Math.max(LIMITS.guildsPerShard, options.guilds / options.shards);
  if (options.guilds / count > guildsPerShard) {
    return [GatewayCloseCodes.ShardingRequired, "Sharding required."];
  }
  if (intents > ALL_INTENTS || (intents & ~ALL_INTENTS) !== 0) {
    return [GatewayCloseCodes.InvalidIntents, "Invalid intent(s)."];
  }
  if ((intents & options.disallowedIntents) !== 0) {
    return [GatewayCloseCodes.DisallowedIntents, "Disallowed intent(s)."];
  }
  return null;
}

function isToken(simulation: Simulation, token: string): boolean {
  return token.replace(/^Bot /, "") === simulation.options.token;
}

function readyPayload(
  connection: Connection,
  session_id: string,
  shard: readonly [number, number],
  guilds: readonly number[],
) {
  const { world } = connection.simulation;
  return {
    v: 10,
    user_settings: {},
    user: world.botUser,
    session_type: "normal",
    session_id,
    resume_gateway_url: connection.resumeUrl,
    relationships: [],
    private_channels: [],
    presences: [],
    guilds: guilds.map((guild) => ({ id: world.guildId(guild), unavailable: true })),
    guild_join_requests: [],
    geo_ordered_rtc_regions: [],
    shard,
    application: { id: world.botUser.id, flags: 0, flags_new: "0" },
    _trace: [],
  };
}
