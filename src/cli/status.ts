/**
 * Owns `guildstream status` as a command: one look, or with --watch one after the other until Ctrl-C. The exit code is 0
 * when it could look, whatever it saw; --check alone judges.
 */
import { setTimeout as delay } from "node:timers/promises";
import { GuildstreamError } from "../core/errors.js";
import { limits } from "../core/limits.js";
import { ensureStreams } from "../nats/definitions.js";
import { type ClusterStatus, isMemberReady } from "../ops/status.js";
import { renderStatus, renderStatusLine } from "../ops/view/status-frame.js";
import { TerminalView } from "../ops/view/terminal.js";
import { Watch } from "../ops/watch.js";
import { connect } from "./common.js";
import { aborted } from "./lifetime.js";
import { createLog } from "./log.js";
import type { StatusOptions } from "./options.js";
import { exitCodes } from "./report.js";

export async function status(options: StatusOptions): Promise<number> {
  if (options.check && options.id === undefined) {
    throw new GuildstreamError("CONFIG_INVALID", "--check needs the name of a member", {
      hint: "add --id NAME (or set GUILDSTREAM_ID)",
    });
  }
  if (options.check && options.watch) {
    throw new GuildstreamError("CONFIG_INVALID", "--check looks once, --watch again and again", {
      hint: "give one of them",
    });
  }
  const log = createLog({ level: options.logLevel, json: options.json, name: "status" });
  const nc = await connect(options, "guildstream status");
  try {
    await ensureStreams(nc, { replicas: options.replicas });
    const watch = new Watch(nc, log);
    if (options.watch) await show(watch, options.json);
    else {
      const status = await watch.first();
      if (options.check) return isMemberReady(status, options.id!) === true ? exitCodes.ok : exitCodes.failed;
      process.stdout.write(options.json ? jsonLine(status) : text(status));
    }
    watch.stop();
    return exitCodes.ok;
  } finally {
    await nc.close();
  }
}

function jsonLine(status: ClusterStatus): string {
  return `${JSON.stringify(status)}\n`;
}

/** Into a pipe nothing is cut: who greps wants to find. */
function text(status: ClusterStatus): string {
  const columns = process.stdout.isTTY ? process.stdout.columns : Number.POSITIVE_INFINITY;
  return `${renderStatus(status, { columns }).join("\n")}\n`;
}

/** Redraws a terminal, writes lines elsewhere, until somebody asks to end. */
async function show(watch: Watch, isJson: boolean): Promise<void> {
  const out = process.stdout;
  const end = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => end.abort());
  out.on("error", () => end.abort()); // Whoever read our lines has gone.
  const ended = aborted(end.signal);
  let status = await Promise.race([watch.first(), ended]);
  const view = out.isTTY && !isJson ? new TerminalView(out) : undefined;
  const isPlain = view === undefined && !isJson;
  const intervalMs = isPlain ? limits.ops.plainLineIntervalMs : limits.ops.viewIntervalMs;
  while (status !== undefined) {
    if (view !== undefined) {
      const room = { columns: view.columns, rows: view.rows - 2 };
      view.draw([...renderStatus(status, room), "", "Ctrl-C ends"]);
    } else out.write(isJson ? jsonLine(status) : `${renderStatusLine(status)}\n`);
    await delay(intervalMs, undefined, { signal: end.signal }).catch(() => {});
    status = await Promise.race([ended, watch.next()]);
  }
  view?.stop();
}
