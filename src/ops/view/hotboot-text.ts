/** Owns what people are shown of a hotboot: how far it is, how long guilds stand still, how long it will take. Pure. */
import type { HotbootProgress } from "../../core/members.js";
import { duration, milliseconds, whole } from "./format.js";

/** One line, or nothing when no hotboot is underway and the last one did not fail. */
export function hotbootText(progress: HotbootProgress | undefined): string | undefined {
  if (progress === undefined) return undefined;
  const { step, dryRun, shardsMoved, shardsTotal, guildsMoved, guildsTotal, handingMs } = progress;
  if (step === "staying")
    return dryRun ? undefined : `came to nothing: ${progress.reason ?? "no reason was told"}`;
  const parts = [
    `${step}`,
    `${whole(guildsMoved)} of ${whole(guildsTotal)} guilds`,
    `${shardsMoved} of ${shardsTotal} sessions`,
  ];
  if (guildsMoved > 0) {
    parts.push(`pause p50 ${milliseconds(progress.pauseP50Ms)}, p99 ${milliseconds(progress.pauseP99Ms)}`);
    const leftMs = (handingMs / guildsMoved) * (guildsTotal - guildsMoved);
    parts.push(`${duration(leftMs / 1_000)} left`);
  }
  return parts.join("   ");
}
