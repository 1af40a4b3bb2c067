/** Entries of the list-server for tests that need some, but no member behind them. */
import type { ClusterList } from "../../src/cluster/list.js";
import { type WorkerEntry, workerEntry } from "../../src/core/members.js";

export function workerEntryOf(id: string, fields: Partial<WorkerEntry> = {}): WorkerEntry {
  const totals = {
    dispatches: 0,
    handled: 0,
    skipped: 0,
    appended: 0,
    handlerErrors: 0,
    fenced: 0,
    queued: 0,
  };
  const effects = { effectsSent: 0, effectsDropped: 0, identifies: 0, resumes: 0, guilds: 0, dirtyGuilds: 0 };
  const member = { version: "0", host: "elsewhere", pid: 1, at: 0, rssBytes: 0, bot: "counting" };
  const place = { incarnation: `${id}.1`, status: "ready", shards: [] };
  return workerEntry.parse({ id, ...member, ...place, ...totals, ...effects, ...fields });
}

/** Writes over whatever is there, as somebody by hand would; the entry's new revision. */
export async function putEntry(list: ClusterList, key: string, value: unknown): Promise<number> {
  const before = (await list.get(key))?.revision ?? 0;
  return (await list.compareAndSet(key, value, before)) ?? putEntry(list, key, value);
}
