/**
 * Every bound and timeout of the simulator, in one place.
 *
 * Values marked "Discord" are what Discord documents or is observed to do; the others keep this
 * process small and its event loop alive. Read by every other file of this folder, changed by none.
 */
export const LIMITS = {
  /** Discord: the interval announced in HELLO. */
  heartbeatIntervalMs: 41_250,
  /** A connection without heartbeat for this many intervals is closed with 4009 (session timed out). */
  zombieIntervals: 2,
  /**
   * A connection without IDENTIFY or RESUME for so long is closed with 4009, heartbeats or not. Discord documents no
   * such time and promises none: a client must get along with being closed.
   */
  identifyTimeoutMs: 120_000,
  /** Discord keeps a session for a RESUME for a few minutes after its connection closed. */
  sessionTtlMs: 180_000,
  /** Dispatches kept for replay per session, beyond those of its start-up. */
  replayWindow: 100_000,
  /** Discord: gateway payloads from a client per window, then close code 4008 (rate limited). */
  clientSends: 120,
  clientSendsWindowMs: 60_000,
  /** Discord: largest payload a client may send, then close code 4002 (decode error). */
  clientPayloadBytes: 4096,
  /** Discord: one IDENTIFY per max_concurrency key in this time. */
  identifyIntervalMs: 5_000,
  /** The client measures its own 5 s; this much network jitter is forgiven. */
  identifySlackMs: 250,
  /** Discord: session_start_limit counts over 24 hours. */
  identifyResetMs: 86_400_000,
  identifyTotal: 1_000,
  /** Discord: guilds a shard may hold, then close code 4011 (sharding required). */
  guildsPerShard: 2_500,
  /** Frames one connection sends before it lets the event loop turn. */
  framesPerTurn: 256,
  /** Bytes a socket may hold unsent; beyond it dispatches wait in their session. */
  socketBufferBytes: 1_048_576,
  /** Discord: members in one GUILD_MEMBERS_CHUNK. */
  membersPerChunk: 1_000,
  /** Discord: members with a name that fits, at most, for a query. */
  membersPerQuery: 100,

  /** Discord: an interaction must be answered within 3 s, its token works for 15 minutes. */
  interactionAnswerMs: 3_000,
  interactionTokenMs: 900_000,
  /** Interactions remembered for follow-ups and edits; the oldest is forgotten first. */
  interactionsKept: 100_000,
  interactionSweepMs: 50,

  /** Discord: enforce_nonce looks back "a few minutes". */
  nonceMs: 300_000,
  nonceLength: 25,
  messageLength: 2_000,
  messagesKept: 100_000,
  embedsPerMessage: 10,
  attachmentsPerMessage: 10,
  embedTotalLength: 6_000,
  /** Discord: 10 MiB of attachments; JSON around them is small. */
  bodyBytes: 10 * 1_048_576 + 65_536,
  controlBodyBytes: 1_048_576,
  commandsPerScope: 100,
  optionsPerCommand: 25,

  /** Discord: requests a bot may make per second over all routes. */
  globalRequests: 50,
  globalWindowMs: 1_000,
  /** Rate-limit buckets in memory before those that have run out are removed. */
  bucketsKept: 10_000,

  /** One step of the traffic clock, and how much lost time it makes up for after a stall. */
  trafficTickMs: 4,
  trafficCatchUpMs: 250,
  /** Longest time one step may take away from sending. */
  trafficTickBudgetMs: 4,
  ratePerSecondMax: 100_000,
  guildsMax: 200_000,
  /** Channels, and roles, that traffic creates in a guild before it only updates and deletes. */
  createdPerGuild: 5,
  /** Guilds that traffic keeps left at one time before the oldest joins again. */
  guildsLeft: 20,
  delayMsMax: 60_000,
  /** close() ends connections that did not close by themselves after this. */
  closeGraceMs: 500,
} as const;

/** What every seeded guild has. */
export const GUILD_SHAPE = {
  channels: 30,
  categories: 4,
  voiceChannels: 6,
  roles: 20,
  membersMin: 12,
  membersMax: 5_000,
  voiceMembers: 4,
} as const;
