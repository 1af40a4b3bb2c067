/**
 * Plain counters of what happened at the gateway and at REST, shown by GET /control/stats.
 *
 * Every field only rises. Written where the thing happens, read by control.ts.
 */
export class Counters {
  connectionsOpened = 0;
  /** Connections closed for sending neither IDENTIFY nor RESUME in time. */
  identifyTimeouts = 0;
  /** WebSocket upgrades that a fault refused. */
  refused = 0;
  identifies = 0;
  /** IDENTIFYs refused with op 9: more than max_concurrency in 5 s. */
  identifiesTooSoon = 0;
  /** IDENTIFYs refused with 4004: session_start_limit spent. */
  identifiesOverLimit = 0;
  resumes = 0;
  resumesFailed = 0;
  heartbeats = 0;
  zombies = 0;
  /** Connections ended by the server, by close code. */
  serverCloses: Record<string, number> = {};
  /** Connections ended by the client, by close code. */
  clientCloses: Record<string, number> = {};
  requests = 0;
  /** Requests answered 401, 403 or 429; Discord bans an address after 10,000 in 10 minutes. */
  invalidRequests = 0;
  rateLimited = 0;
  /** Messages the bot created, by POST or by answering an interaction. */
  botMessages = 0;
  /** POSTs whose enforced nonce returned the message that was already there. */
  nonceDuplicates = 0;

  countClose(by: "server" | "client", code: number): void {
    const closes = by === "server" ? this.serverCloses : this.clientCloses;
    closes[code] = (closes[code] ?? 0) + 1;
  }
}
