/**
 * Faults on demand: what goes wrong between Discord and a bot, made to happen now.
 *
 * Each fault does what real Discord or the network does, no more: sessions and the ledger stay true.
 * Used by control.ts and by tests through the Simulator object.
 */
import { GatewayOpcodes } from "discord-api-types/v10";
import { z } from "zod";
import type { Connection } from "./connection.js";
import type { Gateway } from "./gateway.js";
import { LIMITS } from "./limits.js";
import type { Rest } from "./rest.js";
import type { Simulation } from "./simulation.js";

const shard = z.number().int().min(0).optional();
const durationMs = z.number().int().min(0).max(LIMITS.delayMsMax);
const guildId = z.string().regex(/^\d{1,20}$/, "must be a snowflake");

/** A fault: `shard` narrows it to the connections of one shard id, else it hits all. */
export const faultSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("drop"), shard }),
  z.strictObject({
    kind: z.literal("close"),
    code: z.number().int().min(1000).max(4999).default(4000),
    shard,
  }),
  z.strictObject({ kind: z.literal("reconnect"), shard }),
  z.strictObject({ kind: z.literal("invalidSession"), resumable: z.boolean().default(false), shard }),
  z.strictObject({ kind: z.literal("forgetSession"), shard }),
  z.strictObject({ kind: z.literal("duplicate"), count: z.number().int().min(1).default(10), shard }),
  z.strictObject({ kind: z.literal("delay"), ms: durationMs, shard }),
  z.strictObject({ kind: z.literal("pauseReading"), ms: durationMs, shard }),
  z.strictObject({ kind: z.literal("outage"), guildId, end: z.boolean().default(false) }),
  z.strictObject({
    kind: z.literal("refuse"),
    status: z.number().int().min(400).max(599).default(503),
    count: z.number().int().min(0).default(1),
  }),
  z.strictObject({
    kind: z.literal("restFailure"),
    status: z.number().int().min(400).max(599).default(500),
    count: z.number().int().min(0).default(1),
  }),
]);

/**
 * - `drop`: the TCP connection ends without a close frame. `close`: the server closes with `code`.
 * - `reconnect`: op 7. `invalidSession`: op 9, after which the session is gone unless `resumable`.
 * - `forgetSession`: sessions are lost while their connections drop, so that a RESUME gets op 9.
 * - `duplicate`: the last `count` dispatches come again with the sequences they had.
 * - `delay`: everything is sent `ms` later, until set to 0. `pauseReading`: nothing is read for `ms`.
 * - `outage`: the guild becomes unavailable; with `end` it is back.
 * - `refuse`: the next `count` WebSockets are not opened but answered with `status`.
 * - `restFailure`: the next `count` REST requests are answered with `status`.
 */
export type Fault = z.input<typeof faultSchema>;

export class Faults {
  constructor(
    private readonly simulation: Simulation,
    private readonly gateway: Gateway,
    private readonly rest: Rest,
  ) {}

  /**
   * Makes a fault happen.
   *
   * @returns how many connections (guilds, requests) it hit.
   * @throws ZodError for a fault that is none, RangeError for a guild that does not exist.
   */
  inject(fault: Fault): number {
    const checked = faultSchema.parse(fault);
    switch (checked.kind) {
      case "drop":
        return this.#each(checked.shard, (connection) => connection.drop());
      case "close":
        return this.#each(checked.shard, (connection) => connection.close(checked.code, "Fault."));
      case "reconnect":
        return this.#each(checked.shard, (connection) => connection.send(GatewayOpcodes.Reconnect, null));
      case "invalidSession":
        return this.#each(checked.shard, (connection) => connection.invalidate(checked.resumable));
      case "forgetSession":
        return this.#forgetSessions(checked.shard);
      case "duplicate":
        return this.#each(checked.shard, (connection) => connection.sendAgain(checked.count));
      case "delay":
        if (checked.shard === undefined) this.gateway.delayMs = checked.ms;
        return this.#each(checked.shard, (connection) => connection.delay(checked.ms));
      case "pauseReading":
        return this.#each(checked.shard, (connection) => connection.pauseReading(checked.ms));
      case "outage":
        return this.#outage(checked.guildId, checked.end);
      case "refuse":
        this.gateway.refuseNext(checked.count, checked.status);
        return checked.count;
      case "restFailure":
        this.rest.failNext(checked.count, checked.status);
        return checked.count;
    }
  }

  #each(shard: number | undefined, act: (connection: Connection) => void): number {
    const connections = this.gateway.connections(shard);
    for (const connection of connections) act(connection);
    return connections.length;
  }

  #forgetSessions(shard: number | undefined): number {
    const sessions = this.simulation.sessions
      .all()
      .filter(({ identity }) => shard === undefined || identity.shard[0] === shard);
    for (const session of sessions) {
      session.connection?.drop();
      this.simulation.sessions.end(session, "invalidated");
    }
    return sessions.length;
  }

  #outage(guildId: string, end: boolean): number {
    const { world } = this.simulation;
    const guild = world.guildIndex(guildId);
    if (guild < 0) throw new RangeError(`guildId: the world has no guild ${guildId}`);
    if (world.status(guild) === (end ? "joined" : "outage") || world.status(guild) === "left") return 0;
    this.simulation.setGuildStatus(guild, end ? "joined" : "outage");
    return 1;
  }
}
