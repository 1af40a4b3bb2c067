/** Owns wiring a worker: connect, run, drain. Resolves once it is ready; a failed boot leaves nothing running. */
import { join } from "node:path";
import { loadBot } from "../bots/load.js";
import { ensureStreams } from "../nats/definitions.js";
import { missingToken, runWorker } from "../worker/worker.js";
import { type Boot, connect, defaultId, readToken, version } from "./common.js";
import { crashPoint } from "./crash-point.js";
import { aborted, type Role } from "./lifetime.js";
import type { CommonOptions } from "./options.js";
import { generation, spawnNext } from "./successor.js";

const MiB = 1024 * 1024;
const discord = "https://discord.com/api";

export async function bootWorker(options: CommonOptions, boot: Boot): Promise<Role> {
  const id = options.hotboot ?? options.id ?? defaultId("worker");
  const token = readToken(options);
  if (token === undefined) throw missingToken();
  const bot = await loadBot(options.bot ?? "community");
  const nc = await connect(options, `guildstream ${id}`);
  try {
    await ensureStreams(nc, { replicas: options.replicas });
    const worker = await runWorker({
      id,
      nc,
      bot,
      token,
      discordApi: options.discordApi ?? discord,
      shards: options.shards,
      memoryBytes: options.memoryMb * MiB,
      version,
      log: boot.log,
      listCacheFile: join(options.data, id, "list.json"),
      isSuccessor: options.hotboot !== undefined,
      ...(generation !== undefined && { spawnSuccessor: () => spawnNext(id) }),
      gcEveryGuilds: options.hotbootGc,
      stop: boot.stop,
      onHandoffStep: crashPoint(process.env.GUILDSTREAM_CRASH_FILE),
    });
    const stop = async (): Promise<void> => {
      try {
        await worker.stop({ temporary: options.temporary });
      } finally {
        await nc.close();
      }
    };
    try {
      await Promise.race([worker.ready, worker.failed, aborted(boot.stop)]);
    } catch (error) {
      await stop();
      throw error;
    }
    return { stop, failed: worker.failed, replaced: worker.replaced, hotboot: () => worker.hotboot() };
  } catch (error) {
    await nc.close();
    throw error;
  }
}
