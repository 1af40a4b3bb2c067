/**
 * Owns `guildstream hotboot`: asks a running worker to hand over to new code, and shows how it goes until it is over.
 *
 * Exit code 0: the new code serves (or, with --dry-run, it would; with --abort, the request was taken). 1: everything is
 * as it was, with the reason.
 */
import { ClusterList, type Listed } from "../cluster/list.js";
import { GuildstreamError } from "../core/errors.js";
import { limits } from "../core/limits.js";
import type { HotbootProgress, WorkerEntry } from "../core/members.js";
import { askWorker } from "../nats/ask.js";
import type { NatsConnection } from "../nats/connect.js";
import { connect } from "./common.js";
import { createLog } from "./log.js";
import type { HotbootOptions } from "./options.js";
import { exitCodes } from "./report.js";

export async function hotboot(worker: string | undefined, options: HotbootOptions): Promise<number> {
  const log = createLog({ level: options.logLevel, json: options.json, name: "hotboot" });
  const nc = await connect(options, "guildstream hotboot");
  const list = await ClusterList.open(nc, log);
  try {
    const before = chosen(list, worker);
    const { id } = before;
    await ask(nc, id, options);
    if (options.abort) {
      process.stdout.write(`${id} takes everything back\n`);
      return exitCodes.ok;
    }
    return await follow(list, before, options);
  } finally {
    list.stop();
    await nc.close();
  }
}

function chosen(list: ClusterList, worker: string | undefined): Listed<WorkerEntry> {
  const workers = [...list.workers().values()];
  const [only] = workers;
  const found = worker === undefined && workers.length === 1 ? only : workers.find(({ id }) => id === worker);
  if (found !== undefined) return found;
  const known = workers.map(({ id }) => id).join(", ") || "none";
  throw new GuildstreamError(
    "CONFIG_INVALID",
    worker === undefined ? "which worker is meant?" : `there is no worker "${worker}"`,
    { hint: `name one of the running workers: ${known}` },
  );
}

async function ask(nc: NatsConnection, id: string, { abort, dryRun }: HotbootOptions): Promise<void> {
  const question = abort ? ({ ask: "abort" } as const) : ({ ask: "hotboot", dryRun } as const);
  const { ok, reason } = await askWorker(nc, id, question, limits.askTimeoutMs);
  if (!ok) throw new GuildstreamError("HOTBOOT_REFUSED", `${id} refuses: ${reason}`);
}

/** Until another incarnation beats under the id, or the worker says that it stays. */
function follow(list: ClusterList, before: Listed<WorkerEntry>, options: HotbootOptions): Promise<number> {
  const { id, incarnation, hotboot: earlier } = before;
  let last: HotbootProgress | undefined;
  const beganAt = performance.now();
  return new Promise((resolve, reject) => {
    const look = (): void => {
      const entry = list.workers().get(id);
      if (entry === undefined) return;
      if (entry.incarnation !== incarnation) {
        const elapsedMs = Math.round(performance.now() - beganAt);
        say(options, { id, deployed: true, ...last, step: "gone", elapsedMs });
        end(() => resolve(exitCodes.ok));
        return;
      }
      const { hotboot } = entry;
      if (hotboot === undefined || hotboot.attempt <= (earlier?.attempt ?? 0)) return;
      if (JSON.stringify(hotboot) === JSON.stringify(last)) return;
      last = hotboot;
      say(options, { id, deployed: false, ...hotboot });
      if (hotboot.step !== "staying") return;
      const failed = new GuildstreamError("HOTBOOT_FAILED", `${id} goes on as before: ${hotboot.reason}`);
      if (options.dryRun && hotboot.to !== "" && hotboot.shardsMoved === 0 && isTry(hotboot)) {
        end(() => resolve(exitCodes.ok));
      } else end(() => reject(failed));
    };
    const stop = list.onChange((key) => key.startsWith("worker.") && look());
    const timer = setInterval(() => {
      const entry = list.workers().get(id);
      if (entry?.live === true) return;
      end(() =>
        reject(
          new GuildstreamError("HOTBOOT_FAILED", `${id} is silent`, {
            hint: "see its log, and `guildstream status`",
          }),
        ),
      );
    }, limits.memberDeadMs);
    const end = (settle: () => void): void => {
      stop();
      clearInterval(timer);
      settle();
    };
  });
}

function isTry({ reason }: HotbootProgress): boolean {
  return reason?.includes("only a try") === true;
}

function say(
  options: HotbootOptions,
  progress: Partial<HotbootProgress> & { id: string; deployed: boolean },
): void {
  if (options.json) {
    process.stdout.write(`${JSON.stringify(progress)}\n`);
    return;
  }
  const { id, step, shardsMoved = 0, shardsTotal = 0, guildsMoved = 0, guildsTotal = 0 } = progress;
  const { pauseP50Ms = 0, pauseP99Ms = 0, elapsedMs = 0 } = progress;
  const moved = `${guildsMoved} of ${guildsTotal} guilds, ${shardsMoved} of ${shardsTotal} shards`;
  const pauses = guildsMoved === 0 ? "" : `, pause p50 ${pauseP50Ms} ms, p99 ${pauseP99Ms} ms`;
  process.stdout.write(
    `${(elapsedMs / 1_000).toFixed(1).padStart(5)} s  ${id}  ${step}: ${moved}${pauses}\n`,
  );
}
