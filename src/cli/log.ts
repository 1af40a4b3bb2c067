/**
 * Owns how a role logs: pino to stderr, one JSON object a line, or one readable line on a terminal.
 *
 * Invariant: the bot's token does not leave through here. Known fields are redacted, and whatever text the token
 * still appears in (an error's message, say) loses it in the last step, on the finished line.
 */
import { hostname } from "node:os";
import { type Logger, pino } from "pino";
import type { LogLevel } from "./options.js";

export interface LogOptions {
  level: LogLevel;
  json: boolean;
  /** Who logs: the member's id. */
  name: string;
  /** Never to appear in a line. */
  secrets?: readonly (string | undefined)[];
}

const levelNames: Record<number, string> = { 20: "debug", 30: "info", 40: "warn", 50: "error", 60: "fatal" };
const secretFields = ["token", "*.token", "password", "*.password", "authorization", "*.authorization"];
/** Fields of every line that say nothing to somebody who watches one terminal. */
const quietFields = new Set(["level", "time", "msg", "name", "pid", "hostname"]);

export function createLog(options: LogOptions): Logger {
  const secrets = (options.secrets ?? []).filter(
    (secret) => secret !== undefined && secret !== "",
  ) as string[];
  const readable = process.stderr.isTTY === true && !options.json;
  const write = (line: string): void => {
    const text = readable ? readableLine(line) : line;
    process.stderr.write(secrets.reduce((shown, secret) => shown.replaceAll(secret, "***"), text));
  };
  return pino(
    {
      level: options.level,
      base: { name: options.name, pid: process.pid, hostname: hostname() },
      redact: { paths: secretFields, censor: "***" },
    },
    { write },
  );
}

/** `12:00:01 warn  worker-1 the log does not answer  event=judge` */
export function readableLine(line: string): string {
  let fields: Record<string, unknown>;
  try {
    fields = JSON.parse(line) as Record<string, unknown>;
  } catch {
    return line;
  }
  const time = new Date(Number(fields.time)).toISOString().slice(11, 19);
  const level = (levelNames[Number(fields.level)] ?? "").padEnd(5);
  const rest = Object.entries(fields)
    .filter(([name]) => !quietFields.has(name))
    .map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join(" ");
  return `${time} ${level} ${fields.name} ${fields.msg ?? ""}${rest === "" ? "" : `  ${rest}`}\n`;
}
