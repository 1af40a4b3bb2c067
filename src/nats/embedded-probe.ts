/**
 * Owns what the embedded server asks of the machine: a free port, the INFO line a server greets with, the end of a log.
 * Used by embedded.ts; the greeting also by definitions.ts, which asks every server of a cluster for its version.
 */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { connect, createServer } from "node:net";

/**
 * Below every system's range of outgoing ports. A port inside it can be taken while the server is down, even by a
 * client on loopback that reconnects to it and so, by chance, to itself.
 */
const PORT_MIN = 20_000;
const PORT_MAX = 32_000;
const PORT_PROBES_MAX = 200;
const INFO_TIMEOUT_MS = 2_000;
const INFO_MAX_BYTES = 64 * 1024;
const TAIL_MAX_BYTES = 16 * 1024;

export interface ServerInfo {
  server_name: string;
  version: string;
  jetstream?: boolean;
}

/** A port nobody listens on at this moment; the caller must live with losing it before it binds. */
export async function freePort(host: string): Promise<number> {
  for (let probe = 0; probe < PORT_PROBES_MAX; probe++) {
    const port = PORT_MIN + Math.floor(Math.random() * (PORT_MAX - PORT_MIN));
    if (await isFree(host, port)) return port;
  }
  throw new Error(`no free port found between ${PORT_MIN} and ${PORT_MAX}`);
}

function isFree(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, host, () => server.close(() => resolve(true)));
  });
}

/** What a NATS server says to everyone who connects; undefined when nobody, or something else, answers. */
export function readServerInfo(
  host: string,
  port: number,
  timeoutMs: number,
): Promise<ServerInfo | undefined> {
  return new Promise((resolve) => {
    const socket = connect(port, host);
    let received = "";
    const finish = (info: ServerInfo | undefined) => {
      socket.destroy();
      resolve(info);
    };
    socket.setTimeout(Math.max(1, Math.min(INFO_TIMEOUT_MS, timeoutMs)), () => finish(undefined));
    socket.on("error", () => finish(undefined));
    socket.on("close", () => finish(undefined));
    socket.on("data", (piece) => {
      received += piece.toString("utf8");
      const end = received.indexOf("\r\n");
      if (end < 0) {
        if (received.length > INFO_MAX_BYTES) finish(undefined);
        return;
      }
      try {
        finish(received.startsWith("INFO ") ? (JSON.parse(received.slice(5, end)) as ServerInfo) : undefined);
      } catch {
        finish(undefined);
      }
    });
  });
}

/** The last lines of a log, those that say more than the routine of starting; empty when there is none. */
export function tailOf(path: string, lines: number): string {
  let descriptor: number;
  try {
    descriptor = openSync(path, "r");
  } catch {
    return "";
  }
  try {
    const sizeBytes = fstatSync(descriptor).size;
    const buffer = Buffer.alloc(Math.min(sizeBytes, TAIL_MAX_BYTES));
    readSync(descriptor, buffer, 0, buffer.length, sizeBytes - buffer.length);
    const all = buffer.toString("utf8").trimEnd().split("\n");
    return all
      .filter((line) => !line.includes("[INF]"))
      .slice(-lines)
      .join("\n");
  } finally {
    closeSync(descriptor);
  }
}
