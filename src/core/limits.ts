/**
 * Owns every bound and timeout of the runtime; units come last in the names.
 * The simulator has its own limits (it is usable alone); nothing else keeps numbers of its own.
 */

const KiB = 1024;
const MiB = 1024 * KiB;

export const limits = {
  // The guild log.
  /** Partitions in `guild.<pp>.<guildId>`; on the wire, so it never changes. */
  partitionCount: 64,
  /** The smallest server max_payload we run with. */
  maxPayloadMinBytes: 1 * MiB,
  /** Kept free in a message beside the state: envelope, headers, cursor. */
  messageHeadroomBytes: 16 * KiB,
  /** One event's ops; more than this waits for the next event. */
  eventOpsMaxBytes: 256 * KiB,
  /** Mutations folded into one event. */
  eventMutationsMax: 1_000,
  /** Without an answer for so long an append's outcome is unknown and the log is read. */
  appendTimeoutMs: 4_000,
  /** The one coarse timer that looks for such appends. */
  appendScanIntervalMs: 250,
  /** Between two reads of the log's last message while it does not answer. */
  judgeRetryMinMs: 50,
  judgeRetryMaxMs: 2_000,
  /** Read one by one up to here; a longer history is worth a consumer of its own. */
  readSinglyMax: 32,
  /** Pulls in a row that bring nothing, a moment apart, before a read is given up. */
  readerEmptyMax: 20,
  readerBatchMessages: 500,
  readerBatchBytes: 16 * MiB,
  /** The server forgets the consumer so long after its last pull. */
  readerIdleMs: 2_000,
  /** The same trouble of many appends is logged this often. */
  troubleIntervalMs: 1_000,
  /** Appends in flight over all guilds of one worker. */
  appendsInFlightMax: 4_096,
  /** The server's memory of Nats-Msg-Id, as in streams/guilds.json. */
  duplicateWindowMs: 120_000,

  /** A stream has no leader: asked again so often at first, seldom later; what it finds is shared by all that wait. */
  leaderAskMinMs: 250,
  leaderAskMaxMs: 3_000,
  /**
   * For so long a replicated stream must say that it lost something: nats-server holds itself for the leader at most
   * 20 s after it was cut off (it looks every 10 s whether it has missed the others for 10 s).
   */
  rewindConfirmMs: 22_000,

  // NATS.
  natsConnectTimeoutMs: 5_000,
  natsRequestTimeoutMs: 3_000,
  natsReconnectWaitMs: 250,
  /** A server that answers no ping for two of these is left for another: one that froze closes no connection. */
  natsPingIntervalMs: 3_000,
  /** While a cluster has no leader (nats-server takes 4 to 9 s to elect one), whoever boots waits. */
  leaderPatienceMs: 15_000,
  /** Asking a cluster's other servers for their version. */
  natsGreetingTimeoutMs: 2_000,
  natsServerMinVersion: "2.10.0",
  natsServerMinReplicasVersion: "2.11.0",
  embeddedStartTimeoutMs: 15_000,
  embeddedStopTimeoutMs: 10_000,
  embeddedMaxPayloadBytes: 8 * MiB,

  // Gateway and queue.
  /** Slots of the ring between a shard's gateway and processing; a power of two. */
  ringSlots: 16_384,
  /** A closed-by-backpressure shard resumes when its ring is emptier than this share. */
  ringResumeShare: 0.25,
  /** While memory is full so many dispatches of a shard wait in its ring; with more it leaves the gateway. */
  ringQueuedFullMax: 512,
  checkpointIntervalMs: 200,
  shardRetryMinMs: 500,
  shardRetryMaxMs: 15_000,
  /** Resumable close: any code but 1000 and 1001 keeps the session; @discordjs/ws uses this one. */
  gatewayResumableCloseCode: 4200,
  /** The peer's share in closing a connection; afterwards it is cut. */
  gatewayCloseTimeoutMs: 1_000,
  gatewayHandshakeTimeoutMs: 10_000,
  gatewayHelloTimeoutMs: 15_000,
  /** Between IDENTIFY or RESUME and the first sign of life after it. */
  gatewayReadyTimeoutMs: 15_000,
  /** The same for a RESUME over a prepared connection, which may have died unnoticed: another one is opened then. */
  gatewayPreparedTimeoutMs: 2_000,
  /** A connection that was ready for so long starts its backoff over. */
  shardStableMs: 5_000,
  /** Failed attempts at a session's resume URL before the general gateway URL is tried. */
  resumeUrlAttemptsMax: 2,

  // Worker.
  guildLoadsInFlightMax: 64,
  guildWaitingMax: 10_000,
  /** Tries to load a guild that no node has and the stream cannot rebuild, a second apart. */
  guildLoadAttemptsMax: 10,
  guildLoadRetryMs: 1_000,
  guildIdleMs: 60_000,
  /** Kept at least so long after its last dispatch, however scarce memory is. */
  guildEvictMinIdleMs: 2_000,
  /** The same when memory is full: what nats-server needs to have written an event to its file. */
  guildEvictFullIdleMs: 100,
  evictIntervalMs: 1_000,
  evictFullIntervalMs: 100,
  /** After a pass that took long the next one waits so many times that. */
  evictRestFactor: 20,
  memoryBudgetBytes: 1024 * MiB,
  /** Saved guilds leave until what is held is within this share of the budget. */
  memoryEvictShare: 0.8,
  /** Over the budget nothing is taken until what is held is below this share of it. */
  memoryResumeShare: 0.9,
  /** What is wrong for long is said again so often; it is over when it has not come back for so long. */
  alarmRepeatMs: 30_000,
  alarmCalmMs: 2_000,
  /** Discord drops an interaction's token after 3 s without an answer; we stop a little earlier. */
  interactionAnswerMs: 2_900,
  /** Follow-ups: an interaction's token lives 15 minutes. */
  interactionTokenMs: 895_000,
  effectAttemptsMax: 3,
  restTimeoutMs: 10_000,
  restRetryMinMs: 50,
  /** Idle request queues of @discordjs/rest (one a webhook token, say) are let go this often. */
  restSweepIntervalMs: 60_000,
  /** GET /gateway/bot is answered from memory for so long, for its URL only. */
  gatewayUrlAgeMs: 60_000,
  /** Levels of arrays and objects inside each other in guild state. */
  stateDepthMax: 64,
  /** A state's size is guessed from its changes, up to twice its last exact one and this; then it is taken again. */
  stateGuessBytes: 16 * KiB,
  handlerTimeoutMs: 30_000,
  drainTimeoutMs: 30_000,

  // Database node.
  batchMessagesMax: 2_000,
  batchIntervalMs: 10,
  /** The same while the stream has much more: fewer, larger writes. */
  batchIntervalBehindMs: 100,
  /** Folded but not yet saved; more is not pulled. Large, so that a node that is behind writes a guild seldom. */
  unsavedMessagesMax: 16_000,
  unsavedBytesMax: 256 * MiB,
  /** One pull request to the stream; two are on their way. */
  pullMessagesMax: 2_000,
  pullBytesMax: 64 * MiB,
  pullExpiresMs: 30_000,
  pullHeartbeatMs: 2_000,
  consumerRetryMs: 250,
  /** Making the texts of a batch yields to requests this often. */
  saveSliceMs: 5,
  dbGetWaitersMax: 10_000,
  quarantineReasonMaxLength: 300,
  /** A worker waits so long for a node's answer, then asks the next: an interaction has 3 s in all. */
  dbGetTimeoutMs: 1_000,
  /** All nodes together; then the guild is rebuilt from the stream. */
  dbGetAllMs: 1_500,
  /** A node that is behind waits so long for the event that is asked for, then says how far it is. */
  dbGetWaitMs: 750,
  quarantineEntriesMax: 10_000,
  documentCacheBytes: 128 * MiB,
  diskMapBytes: 64 * 1024 * MiB,

  // Which node a worker asks.
  /** The share of the newest answer in a node's smoothed answer time. */
  nodeAnswerSmoothing: 0.2,
  nodeAnswerHalfLifeMs: 5_000,
  /** Nodes that answer faster than this are equally good. */
  nodeAnswerFloorMs: 2,
  /** So many messages behind the furthest node halve a node's requests. */
  nodeLagMessages: 2_000,
  /** A node that failed is avoided so long at first; not shorter than dbGetTimeoutMs, so that what was asked together has failed. */
  nodeAvoidMinMs: 1_000,
  nodeAvoidMaxMs: 8_000,

  // The list-server.
  heartbeatIntervalMs: 1_000,
  /** Silent for so long a member counts as dead; with claiming and RESUME a shard is served again within 10 s. */
  memberDeadMs: 6_000,
  /** A dead member's entry is taken out of the list so long after its death. */
  memberForgetMs: 60_000,
  /** The shards of a member that is offline for a while are kept for it so long. */
  temporaryReserveMs: 60_000,
  /** Nothing from the list-server for so long, not even our own heartbeat: it is away, and tells of no member. */
  listSilenceMs: 2_500,
  /** Between two tries to open a list-server that is gone, and between two loud words about it. */
  listRetryMs: 500,
  /** A write or read of one entry; with an interval more it stays well below what counts as death. */
  listRequestTimeoutMs: 2_000,
  listTroubleIntervalMs: 10_000,
  /** At boot: without a list by then, the one kept on disk serves for what needs no claim. */
  listOpenTimeoutMs: 5_000,
  listCacheIntervalMs: 5_000,
  /** The claim's own write is seen in the picture by then, or the entry is read. */
  listCatchUpMs: 2_000,
  claimIntervalMs: 1_000,
  /** The server's sign of life on a watch of the list; after two and a half without any the list is read anew. */
  watchHeartbeatMs: 1_000,
  /** Changes of the list are gathered for so long before the claims are looked at. */
  claimDebounceMs: 20,
  /** A process that did not run for so long may have been taken for dead: it looks at its claims first. */
  frozenMs: 3_000,
  /** Handing over: until all live workers have noted a leaving one, and until its shards are served elsewhere. */
  noteTimeoutMs: 5_000,
  handOverTimeoutMs: 20_000,
  /** A shard that is given away waits so long for its guilds to be saved; the log has them in any case. */
  releaseSavedTimeoutMs: 1_000,
  /** Guilds of a dead worker's shards that are loaded ahead of their next dispatch. */
  warmLoadsPerSecond: 200,
  /** Ahead of need only while memory is emptier than this share of its budget. */
  warmMemoryShare: 0.5,

  // The identify budget.
  /** Discord: one IDENTIFY per bucket in this time. */
  identifyIntervalMs: 5_000,
  /** Added to it: Discord measures at its end, so one that was fast on its way must not catch up with a slow one. */
  identifyMarginMs: 500,
  /** From asking for a turn to its IDENTIFY; later it is not used. Less than the margin, which it eats from. */
  identifyUseWithinMs: 250,
  /** Of the daily total, never spent; see reserveOf in core/identify.ts. */
  identifyReserveShare: 0.01,
  /** Shards that begin or cease to wait within this are told of in one write. */
  identifyAnnounceMs: 50,
  /** Before the first turn of a shard: other workers' shards that wait become known, and lower ones go first. */
  identifySettleMs: 300,
  /** For a lower shard of the bucket that waits elsewhere, once the turn is free; then it has had its chance. */
  identifyHeadStartMs: 500,
  /** Discord is asked so often what is left of the day, by each worker whose shards wait; never within the second. */
  identifyAskIntervalMs: 60_000,
  identifyAskMinIntervalMs: 1_000,
  /** Two answers whose resets are closer than this speak of the same day. */
  identifyResetToleranceMs: 2_000,
  /** Discord or the list-server does not answer. */
  identifyRetryMs: 1_000,
  identifyRefusalLogIntervalMs: 300_000,

  // Handoff and hotboot.
  /** Unacknowledged messages of one receiver; fewer than a ring has slots. */
  handoffUnackedMax: 8_192,
  /** Not delivered again while the receiver lives: a move that stands still is taken back long before. */
  handoffAckWaitMs: 600_000,
  handoffInactiveMs: 60_000,
  /** Room left in a message for its envelope when a state is cut into parts. */
  handoffPartHeadroomBytes: 1 * KiB,
  /** Guilds that are locked and sent at a time, and between two such turns: about 1,200 a second. */
  handoffGuildsPerTurn: 3,
  handoffTurnMs: 2,
  /** The receiver tells how far it has committed. */
  handoffReportIntervalMs: 20,
  /** Without any progress for so long, a move is taken back. */
  handoffStallMs: 5_000,
  /** An offer is answered once the socket is open. */
  handoffOfferTimeoutMs: 20_000,
  /** Any other question of one worker to another. */
  askTimeoutMs: 3_000,
  /** After a move that failed, before the shard is offered again; so often. */
  handoffRetryMs: 1_000,
  handoffAttemptsMax: 3,
  /** From asking for the child to its hello, and from there to its open sockets. */
  hotbootSpawnTimeoutMs: 60_000,
  hotbootReadyTimeoutMs: 60_000,
  /** A child whose parent is silent for so long takes its place: a little before the others would. */
  hotbootParentSilentMs: 4_500,
  hotbootPlaceTimeoutMs: 10_000,
  /** A child that was dismissed, or never spoke, is ended by force so long after. */
  hotbootEndTimeoutMs: 5_000,
  /** Pauses kept for the percentiles. */
  hotbootPausesMax: 100_000,

  // Signals of a role.
  /** Requests to stop that come within so long are one that came by two ways; so are touches of the signal file. */
  signalEchoMs: 500,
  /** Where the system tells of no changes the signal file is looked for this often. */
  signalFilePollMs: 2_000,
  /** A signal file that was seen stays for so long: for everybody in the folder to see. More than two polls. */
  signalFileKeepMs: 5_000,

  // `guildstream start` and the operator's views.
  ops: {
    /** A child's drain is bounded by itself; this much later it is killed. */
    childStopTimeoutMs: 40_000,
    restartMinMs: 200,
    restartMaxMs: 5_000,
    /** So many ends within the window, and the child is given up. */
    crashesMax: 5,
    crashWindowMs: 30_000,
    logTailLines: 12,
    /** From the first spawn to everything ready; identifying many shards takes its time. */
    bootTimeoutMs: 300_000,
    simulatorMaxConcurrency: 16,
    simulatorRequestTimeoutMs: 10_000,
    viewIntervalMs: 1_000,
    /** `status` listens so long before its first look: every live member has a heartbeat in it. */
    listenMs: 1_500,
    /** A member that was heard counts as live for so long. */
    silentAfterMs: 3_000,
    /** Longer without an answer, and NATS counts as away. */
    lookTimeoutMs: 2_000,
    /** After NATS was away its members take their time to come back. */
    returnPatienceMs: 5_000,
    plainLineIntervalMs: 5_000,
    /** After the traffic has ended: until everything is processed and saved everywhere. */
    settleTimeoutMs: 60_000,
    settlePollMs: 200,
    /** What a settled system must have kept still for: longer than two heartbeats. */
    settleQuietMs: 2_200,
    stateRequestsInFlight: 64,
    stateRequestTimeoutMs: 5_000,
    stateRequestAttempts: 5,
    notesShown: 4,
    /** The watchdog's patience with children that drain after the supervisor was killed. */
    watchdogPatienceS: 45,
    /** The live view's look at some guilds: how often, how many, and when something still missing counts as lost. */
    lookIntervalMs: 5_000,
    lookGuilds: 50,
    lostAfterMs: 30_000,
  },
} as const;
