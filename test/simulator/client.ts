/**
 * A bare gateway client and a REST caller for the tests: every frame is kept, nothing is automatic.
 */
import { once } from "node:events";
import { createInflate, constants as zlib } from "node:zlib";
import type { GatewayIdentifyData } from "discord-api-types/v10";
import WebSocket from "ws";
import type { Simulator } from "../../src/simulator/index.js";

/** Every intent there is. */
export const ALL_INTENTS = 53_608_447;
const WAIT_MS = 20_000;

export interface Frame {
  op: number;
  t: string | null;
  s: number | null;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into payloads of every kind
  d: any;
}

/** Resolves when the condition holds; fails with what it waited for. */
export async function until(what: string, holds: () => boolean): Promise<void> {
  const startedMs = performance.now();
  while (!holds()) {
    if (performance.now() - startedMs > WAIT_MS) throw new Error(`waited in vain for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

export class Client {
  readonly frames: Frame[] = [];
  closeCode: number | null = null;
  readonly #socket: WebSocket;

  constructor(url: string, compress = false) {
    const query = `v=10&encoding=json${compress ? "&compress=zlib-stream" : ""}`;
    this.#socket = new WebSocket(`${url.replace("http", "ws")}/?${query}`);
    this.#socket.on("error", () => {});
    this.#socket.on("close", (code) => {
      this.closeCode = code;
    });
    if (!compress) {
      this.#socket.on("message", (data) => this.frames.push(JSON.parse(String(data))));
      return;
    }
    const inflate = createInflate({ flush: zlib.Z_SYNC_FLUSH });
    let text = "";
    inflate.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
    });
    this.#socket.on("message", (data: Buffer) => {
      if (data.readUInt32BE(data.length - 4) !== 0x0000ffff) throw new Error("no Z_SYNC_FLUSH suffix");
      inflate.write(data, () => {
        this.frames.push(JSON.parse(text));
        text = "";
      });
    });
  }

  get s(): number {
    return this.frames.findLast(({ s }) => s !== null)?.s ?? 0;
  }

  get sessionId(): string {
    return this.of("READY")[0]!.d.session_id;
  }

  /** All dispatches of a type. */
  of(t: string): Frame[] {
    return this.frames.filter((frame) => frame.t === t);
  }

  async receives(what: string, matches: (frame: Frame) => boolean): Promise<Frame> {
    await until(what, () => this.frames.some(matches));
    return this.frames.find(matches)!;
  }

  async closes(): Promise<number> {
    await until("close", () => this.closeCode !== null);
    return this.closeCode!;
  }

  async sends(op: number, d: unknown): Promise<void> {
    if (this.#socket.readyState === WebSocket.CONNECTING) await once(this.#socket, "open");
    this.#socket.send(JSON.stringify({ op, d }));
  }

  async sendsText(text: string): Promise<void> {
    if (this.#socket.readyState === WebSocket.CONNECTING) await once(this.#socket, "open");
    this.#socket.send(text);
  }

  async identifies(data: Partial<GatewayIdentifyData> = {}): Promise<void> {
    const properties = { os: "test", browser: "test", device: "test" };
    await this.sends(2, {
      token: "simulator-token",
      intents: ALL_INTENTS,
      properties,
      shard: [0, 1],
      ...data,
    });
  }

  /** Identifies and waits for READY and all of the shard's guilds. */
  async starts(data: Partial<GatewayIdentifyData> = {}): Promise<Frame> {
    await this.identifies(data);
    const ready = await this.receives("READY", ({ t }) => t === "READY");
    await until("guilds", () => this.of("GUILD_CREATE").length >= ready.d.guilds.length);
    return ready;
  }

  async resumes(session_id: string, seq: number): Promise<void> {
    await this.sends(6, { token: "simulator-token", session_id, seq });
  }

  close(code: number): void {
    this.#socket.close(code);
  }

  terminate(): void {
    this.#socket.terminate();
  }
}

/** One request to the simulator; the path begins with /api or /control. */
export async function call(
  simulator: Simulator,
  method: string,
  path: string,
  body?: unknown,
  token?: string,
) {
  const response = await fetch(simulator.url + path, {
    method,
    headers: {
      authorization: `Bot ${token ?? simulator.token}`,
      ...(body !== undefined && { "content-type": "application/json" }),
    },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  // biome-ignore lint/suspicious/noExplicitAny: tests look into replies of every kind
  const json: any = text === "" ? null : JSON.parse(text);
  return { status: response.status, headers: response.headers, json };
}

/** Per guild: counts by type and idSum of the traffic among these frames, as the ledger books them. */
export function book(frames: readonly Frame[]) {
  const guilds: Record<string, { counts: Record<string, number>; idSum: number; unconfirmed: number }> = {};
  for (const { t, d } of frames) {
    if (t === null || t === "READY" || t === "RESUMED") continue;
    const guild = t === "GUILD_CREATE" || t === "GUILD_DELETE" ? d.id : (d.guild_id ?? "dm");
    guilds[guild] ??= { counts: {}, idSum: 0, unconfirmed: 0 };
    const entry = guilds[guild];
    entry.counts[t] = (entry.counts[t] ?? 0) + 1;
    if (t === "MESSAGE_CREATE" || t === "INTERACTION_CREATE") {
      entry.idSum = (entry.idSum + Number(d.id.slice(-6))) % 1_000_000_000;
    }
  }
  return guilds;
}
