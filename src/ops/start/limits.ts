/** Owns the bounds of `guildstream start` and of the operator's views; units come last in the names. */
export const ops = {
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
} as const;
