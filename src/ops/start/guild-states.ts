/**
 * Owns reading many guilds' states from a database node, for the check of a run. Uses what every worker uses: requests
 * on `dbnode.<id>.get`, a bounded number at a time, again when one is not answered.
 */
import { z } from "zod";
import { GuildstreamError, messageOf } from "../../core/errors.js";
import { limits } from "../../core/limits.js";
import { getReply } from "../../core/members.js";
import { dbnodeSubjects, guildOfSubject, guildsStream } from "../../core/subjects.js";
import type { NatsConnection } from "../../nats/connect.js";
import { requestJson } from "../../nats/messages.js";
import { type Counted, nothingCounted } from "./oracle.js";

const countingState = z.object({
  counts: z.record(z.string(), z.number()),
  idSum: z.number(),
});

/** Ids of all guilds that the log knows. */
export async function guildsInLog(nc: NatsConnection): Promise<string[]> {
  const manager = await nc.jetstreamManager({ checkAPI: false });
  const info = await manager.streams.info(guildsStream, { subjects_filter: ">" });
  const subjects = Object.keys(info.state.subjects ?? {});
  return subjects.map((subject) => guildOfSubject(subject)).filter((guildId) => guildId !== undefined);
}

/** The counting states of the guilds, as that node has them at the stream sequence or later. */
export async function readCounted(
  nc: NatsConnection,
  nodeId: string,
  guildIds: readonly string[],
  atLeastSeq: number,
): Promise<Map<string, Counted>> {
  const states = new Map<string, Counted>();
  const left = guildIds.values();
  const readers = Array.from({ length: limits.ops.stateRequestsInFlight }, async () => {
    for (const guildId of left) states.set(guildId, await readOne(nc, nodeId, guildId, atLeastSeq));
  });
  await Promise.all(readers);
  return states;
}

async function readOne(
  nc: NatsConnection,
  nodeId: string,
  guildId: string,
  atLeastSeq: number,
): Promise<Counted> {
  let trouble = "";
  for (let attempt = 1; attempt <= limits.ops.stateRequestAttempts; attempt += 1) {
    try {
      const request = { v: 1, guildId, atLeastSeq };
      const subject = dbnodeSubjects.get(nodeId);
      const reply = await requestJson(nc, subject, request, getReply, limits.ops.stateRequestTimeoutMs);
      if (reply?.outcome === "unknown") return nothingCounted;
      if (reply?.outcome === "found") return countingOf(reply.document.state);
      trouble = reply === undefined ? "an answer of another shape" : JSON.stringify(reply);
    } catch (error) {
      trouble = messageOf(error);
    }
    await new Promise((resolve) => setTimeout(resolve, limits.ops.settlePollMs * attempt));
  }
  throw new GuildstreamError("GUILD_UNAVAILABLE", `${nodeId} does not give guild ${guildId}: ${trouble}`, {
    hint: `look into the log of ${nodeId}`,
  });
}

function countingOf(state: unknown): Counted {
  const parsed = countingState.safeParse(state);
  return parsed.success ? parsed.data : nothingCounted;
}
