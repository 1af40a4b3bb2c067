/** Owns wiring a database node: connect, run, announce, drain. A failed boot leaves nothing running. */
import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import { join } from "node:path";
import { ClusterList } from "../cluster/list.js";
import type { GuildstreamError } from "../core/errors.js";
import { limits } from "../core/limits.js";
import { type DbnodeEntry, type MemberStatus, nextStatus } from "../core/members.js";
import { clusterKeys } from "../core/subjects.js";
import { runDbnode } from "../dbnode/dbnode.js";
import { ensureStreams } from "../nats/definitions.js";
import { type Boot, connect, defaultId, version } from "./common.js";
import { aborted, type Role, supervisorGone } from "./lifetime.js";
import type { CommonOptions } from "./options.js";

const workersPollMs = 50;

export async function bootDbnode(options: CommonOptions, boot: Boot): Promise<Role> {
  const id = options.id ?? defaultId("dbnode");
  const nc = await connect(options, `guildstream ${id}`);
  try {
    await ensureStreams(nc, { replicas: options.replicas });
    const node = await runDbnode({ id, nc, dataDir: join(options.data, id), log: boot.log });
    const list = await ClusterList.open(nc, boot.log);
    // Until it has what the log held at its start, others should not ask it nor wait for it.
    const target = node.status().streamLast;
    let status: MemberStatus = "booting";
    const incarnation = `${Date.now().toString(36)}${randomBytes(4).toString("hex")}`;
    const entry = (): DbnodeEntry => {
      const own = node.status();
      if (status === "booting" && own.saved >= target) status = nextStatus(status, "ready");
      return {
        id,
        incarnation,
        status,
        version,
        host: hostname(),
        pid: process.pid,
        at: Date.now(),
        rssBytes: process.memoryUsage.rss(),
        ...own,
      };
    };
    const stop = async (): Promise<void> => {
      // With a supervisor the workers go first; without it they still need somebody to save what they hold.
      if (boot.stop.reason === supervisorGone) await workersGone(list);
      status = nextStatus(status, "draining");
      await list.beat();
      await node.stop();
      await list.leave();
      list.stop();
      await nc.close();
      boot.log.info({ event: "dbnode_stopped", saved: node.status().saved }, "drained");
    };
    let onTaken: (error: GuildstreamError) => void = () => {};
    const idTaken = new Promise<never>((_, reject) => {
      onTaken = reject;
    });
    const failed = Promise.race([node.failed, idTaken]);
    failed.catch(() => {}); // Heard by whoever runs the role.
    try {
      await list.announce(clusterKeys.dbnode(id), entry, onTaken);
      await Promise.race([caughtUp(() => node.status().saved >= target), failed, aborted(boot.stop)]);
      await list.beat();
    } catch (error) {
      await stop();
      throw error;
    }
    return { stop, failed };
  } catch (error) {
    await nc.close();
    throw error;
  }
}

async function workersGone(list: ClusterList): Promise<void> {
  const deadlineAt = performance.now() + limits.drainTimeoutMs;
  while ([...list.workers().values()].some((worker) => worker.live) && performance.now() < deadlineAt) {
    await new Promise((resolve) => setTimeout(resolve, workersPollMs));
  }
}

function caughtUp(holds: () => boolean): Promise<void> {
  return new Promise((resolve) => {
    const timer = setInterval(() => {
      if (!holds()) return;
      clearInterval(timer);
      resolve();
    }, 10);
  });
}
