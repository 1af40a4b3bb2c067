/**
 * Owns asking JetStream's API where it may have nobody to answer: a cluster that is choosing a leader, for a few
 * seconds after a server died or all of them started. A single server's word is final at once.
 * Used where a role boots; what runs has ways of its own to wait (guild-log.ts, consumer.ts, bucket-watch.ts).
 */
import { ErrorCode, type NatsConnection, type NatsError } from "nats";
import { limits } from "../core/limits.js";

/** "JetStream system temporarily unavailable": no leader of the cluster, or of the stream. */
export const jetStreamUnavailable = 10008;
/** "no suitable peers for placement", also while the cluster's other servers have not been heard of yet. */
export const noSuitablePeers = 10005;

/** The error number in JetStream's own answer. */
export function apiErrorCode(error: unknown): number | undefined {
  return (error as NatsError | undefined)?.api_error?.err_code;
}

/** Asks; again while the cluster cannot answer, for at most `leaderPatienceMs`. Rejects with the last error. */
export async function askPatiently<T>(nc: NatsConnection, ask: () => Promise<T>): Promise<T> {
  const deadlineAt = performance.now() + limits.leaderPatienceMs;
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      const isCluster = nc.info?.cluster !== undefined;
      if (!isCluster || !mayPass(error) || performance.now() >= deadlineAt) throw error;
      await new Promise((resolve) => setTimeout(resolve, limits.leaderAskMinMs));
    }
  }
}

function mayPass(error: unknown): boolean {
  const apiCode = apiErrorCode(error);
  if (apiCode !== undefined) return apiCode === jetStreamUnavailable || apiCode === noSuitablePeers;
  const { code } = error as NatsError;
  return (
    code === ErrorCode.Timeout || code === ErrorCode.NoResponders || code === ErrorCode.JetStreamNotEnabled
  );
}
