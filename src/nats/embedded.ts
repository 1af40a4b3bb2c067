/**
 * Owns one nats-server process on this machine's loopback, with JetStream in a data folder: for `guildstream start`,
 * tests and benches. A real server and a real store: what runs against it runs against any other.
 * Invariants: one server a data folder (embedded-lock.ts); `url` never changes, a restart comes back on the same port
 * and store; "started" means the server itself said so, with its own name and JetStream on.
 * If this process dies, the server lives on with its data intact; the next start on the folder ends it first.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { closeSync, mkdirSync, openSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { GuildstreamError } from "../core/errors.js";
import { limits } from "../core/limits.js";
import { type DataDirLock, lockDataDir } from "./embedded-lock.js";
import { freePort, readServerInfo, tailOf } from "./embedded-probe.js";
import { checkServerBinary, type NatsServerBinary, resolveServerBinary } from "./server-version.js";

const HOST = "127.0.0.1";
const READY_POLL_MS = 15;
const PORT_ATTEMPTS_MAX = 10;
const LOG_FILE_MAX_BYTES = 8 * 1024 * 1024;
const LOG_FILES_MAX = 3;
const LOG_TAIL_LINES = 12;

export interface EmbeddedServerOptions {
  /** Holds everything of this server: store, log, configuration, lock. Created if missing. */
  dataDir: string;
  /** Default: a free one. */
  port?: number;
  /** Exactly this version; default: any that is new enough. */
  version?: string;
  /** Path of a nats-server, instead of having one found. */
  binary?: string;
  maxPayloadBytes?: number;
  /** Default: dataDir; the server keeps its store in `jetstream` below it. */
  storeDir?: string;
  /** Default: `<dataDir>/nats-server.log`. */
  logFile?: string;
  /** Every write is flushed to disk before its ack; without it a power cut costs the last seconds. */
  syncAlways?: boolean;
  /** Lines in nats-server's own configuration format, after ours. */
  extraConfig?: string;
}

export interface ServerExit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

export interface EmbeddedServer {
  readonly url: string;
  readonly port: number;
  /** Its own name for itself, the same after a restart: what a cluster calls it. */
  readonly name: string;
  /** Of the process running now, or of the last one. */
  readonly pid: number;
  readonly version: string;
  readonly dataDir: string;
  readonly logFile: string;
  /** Of the process running now: settles when it ends, whoever ended it. Never rejects. */
  readonly exited: Promise<ServerExit>;
  /** Ends it in order (SIGTERM; SIGKILL when that takes too long) and gives the data folder free. */
  stop(): Promise<void>;
  /** SIGKILL; the data folder stays ours, for `restart`. */
  kill(): Promise<void>;
  /** Starts it again on the same port and store, ending it in order first if it runs. */
  restart(): Promise<void>;
}

/** Starts a server and waits until it answers. */
export async function startEmbeddedServer(options: EmbeddedServerOptions): Promise<EmbeddedServer> {
  const dataDir = resolve(options.dataDir);
  const binary = options.binary
    ? await checkServerBinary(options.binary)
    : await resolveServerBinary(options.version);
  mkdirSync(dataDir, { recursive: true });
  const lock = await lockDataDir(dataDir);
  try {
    for (let attempt = 1; ; attempt++) {
      const port = options.port ?? (await freePort(HOST));
      const server = new Embedded({ ...options, dataDir, port }, binary, lock);
      try {
        await server.start();
        return server;
      } catch (error) {
        // Between finding the port free and binding it another process may have been faster.
        const retry = options.port === undefined && error instanceof PortTaken && attempt < PORT_ATTEMPTS_MAX;
        if (!retry) throw error;
      }
    }
  } catch (error) {
    lock.release();
    throw error;
  }
}

/** process.exit() and an uncaught error end our servers too; a SIGKILL of this process does not. */
const running = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of running) child.kill("SIGTERM");
});

class PortTaken extends GuildstreamError {}

class Embedded implements EmbeddedServer {
  readonly url: string;
  readonly port: number;
  readonly dataDir: string;
  readonly logFile: string;
  readonly name = `guildstream-${randomUUID()}`;
  version: string;
  exited: Promise<ServerExit> = Promise.resolve({ code: null, signal: null });
  #child: ChildProcess | undefined;
  #pid = 0;
  #stopped = false;
  readonly #configFile: string;
  readonly #outputFile: string;

  constructor(
    private readonly options: EmbeddedServerOptions & { port: number },
    private readonly binary: NatsServerBinary,
    private readonly lock: DataDirLock,
  ) {
    this.port = options.port;
    this.url = `nats://${HOST}:${options.port}`;
    this.dataDir = options.dataDir;
    this.version = binary.version;
    this.logFile =
      options.logFile === undefined ? join(this.dataDir, "nats-server.log") : resolve(options.logFile);
    this.#configFile = join(this.dataDir, "nats-server.conf");
    this.#outputFile = join(this.dataDir, "nats-server.out");
  }

  get pid(): number {
    return this.#pid;
  }

  async start(): Promise<void> {
    const deadline = Date.now() + limits.embeddedStartTimeoutMs;
    writeFileSync(this.#configFile, this.#config());
    let exit: ServerExit | undefined;
    const child = await this.#spawn();
    this.exited.then((how) => {
      exit = how;
    });
    while (Date.now() < deadline && !exit) {
      const probe = readServerInfo(HOST, this.port, deadline - Date.now());
      const info = await Promise.race([probe, this.exited.then(() => undefined)]);
      // Another server may sit on the port: only our own name counts.
      if (info?.server_name === this.name) {
        if (info.jetstream !== true) {
          await this.#end(child, "SIGKILL");
          throw this.#startFailed("it runs without JetStream");
        }
        this.version = info.version;
        return;
      }
      await Promise.race([delay(READY_POLL_MS), this.exited]);
    }
    if (!exit) await this.#end(child, "SIGKILL");
    const how = exit ? `it exited with ${exit.signal ?? `code ${exit.code}`}` : "it did not answer in time";
    throw this.#startFailed(how);
  }

  async stop(): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    if (this.#child) await this.#end(this.#child, "SIGTERM");
    this.lock.release();
  }

  async kill(): Promise<void> {
    if (this.#child) await this.#end(this.#child, "SIGKILL");
  }

  async restart(): Promise<void> {
    if (this.#stopped) throw new Error("a stopped server has given its data folder free; start a new one");
    if (this.#child) await this.#end(this.#child, "SIGTERM");
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.start();
      } catch (error) {
        if (!(error instanceof PortTaken) || attempt >= PORT_ATTEMPTS_MAX) throw error;
        await delay(READY_POLL_MS * 2 ** attempt); // someone's short-lived connection may sit on the port
      }
    }
  }

  async #spawn(): Promise<ChildProcess> {
    // What it says before its log is open (a bad configuration, a panic) goes here.
    const output = openSync(this.#outputFile, "w");
    try {
      const child = spawn(this.binary.path, ["-c", this.#configFile], {
        cwd: this.dataDir,
        // Its own process group: Ctrl-C in the terminal is for us, who drain first and stop the server last.
        detached: true,
        stdio: ["ignore", output, output],
      });
      this.#child = child;
      this.exited = new Promise((resolve) => {
        const ended = (code: number | null, signal: NodeJS.Signals | null) => {
          if (this.#child === child) this.#child = undefined;
          running.delete(child);
          resolve({ code, signal });
        };
        child.once("exit", ended);
        child.once("error", () => ended(null, null));
      });
      if (child.pid !== undefined) {
        this.#pid = child.pid;
        this.lock.noteServer(child.pid);
        running.add(child);
      }
      return child;
    } finally {
      closeSync(output);
    }
  }

  async #end(child: ChildProcess, signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    const exited = this.exited;
    child.kill(signal);
    if (signal === "SIGTERM") {
      const late = new AbortController();
      const timeout = delay(limits.embeddedStopTimeoutMs, "late", { signal: late.signal }).catch(
        () => "late",
      );
      if ((await Promise.race([exited, timeout])) === "late") child.kill("SIGKILL");
      late.abort();
    }
    await exited;
  }

  #startFailed(how: string): GuildstreamError {
    const tail = [tailOf(this.#outputFile, LOG_TAIL_LINES), tailOf(this.logFile, LOG_TAIL_LINES)]
      .filter((text) => text !== "")
      .join("\n");
    const message =
      `nats-server ${this.binary.version} (${this.binary.path}) did not start: ${how}\n${tail}`.trimEnd();
    if (/address already in use/i.test(tail)) {
      return new PortTaken("NATS_SERVER_START_FAILED", message, {
        hint: `Port ${this.port} is taken; choose another.`,
      });
    }
    const hint = `The lines above are from ${this.logFile}. Is the disk full, or the folder not writable?`;
    return new GuildstreamError("NATS_SERVER_START_FAILED", message, { hint });
  }

  #config(): string {
    const { maxPayloadBytes = limits.embeddedMaxPayloadBytes, storeDir, syncAlways = false } = this.options;
    return [
      "# Written at each start; changes here are lost.",
      `server_name: ${quote(this.name)}`,
      `listen: "${HOST}:${this.port}"`,
      `max_payload: ${maxPayloadBytes}`,
      `log_file: ${quote(this.logFile)}`,
      `logfile_size_limit: ${LOG_FILE_MAX_BYTES}`,
      `logfile_max_num: ${LOG_FILES_MAX}`,
      "jetstream {",
      `  store_dir: ${quote(storeDir === undefined ? this.dataDir : resolve(storeDir))}`,
      ...(syncAlways ? ["  sync_interval: always"] : []),
      "}",
      this.options.extraConfig ?? "",
      "",
    ].join("\n");
  }
}

/** nats-server reads backslashes in double quotes as escapes, as JSON does. */
function quote(text: string): string {
  return JSON.stringify(text);
}
