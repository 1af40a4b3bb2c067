/** Owns `guildstream status` as a command. */
import { ClusterList } from "../cluster/list.js";
import { GuildstreamError } from "../core/errors.js";
import { limits } from "../core/limits.js";
import { ensureStreams } from "../nats/definitions.js";
import { isMemberReady, readStatus, renderStatus } from "../ops/status.js";
import { connect } from "./common.js";
import { createLog } from "./log.js";
import type { StatusOptions } from "./options.js";
import { exitCodes } from "./report.js";

export async function status(options: StatusOptions): Promise<number> {
  if (options.check && options.id === undefined) {
    throw new GuildstreamError("CONFIG_INVALID", "--check needs the name of a member", {
      hint: "add --id NAME (or set GUILDSTREAM_ID)",
    });
  }
  const log = createLog({ level: options.logLevel, json: options.json, name: "status" });
  const nc = await connect(options, "guildstream status");
  try {
    await ensureStreams(nc, { replicas: options.replicas });
    const list = await ClusterList.open(nc, log);
    // An entry alone does not tell whether its member lives; its next heartbeat does.
    const first = await readStatus(nc, list);
    const beaten = new Set<string>();
    const stop = list.onChange((key) => beaten.add(key));
    if (first.workers.length + first.dbnodes.length > 0) {
      await new Promise((resolve) => setTimeout(resolve, limits.heartbeatIntervalMs * 1.5));
    }
    stop();
    const now = await readStatus(nc, list);
    for (const worker of now.workers) worker.live = beaten.has(`worker.${worker.id}`);
    for (const node of now.dbnodes) node.live = beaten.has(`dbnode.${node.id}`);
    list.stop();
    if (options.check) return isMemberReady(now, options.id!) === true ? exitCodes.ok : exitCodes.failed;
    process.stdout.write(options.json ? `${JSON.stringify(now)}\n` : renderStatus(now));
    return exitCodes.ok;
  } finally {
    await nc.close();
  }
}
