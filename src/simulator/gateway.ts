/**
 * The gateway's front door: takes WebSocket upgrades, checks the query (Gateway, "Gateway URL Query
 * String Params") and makes a connection of each.
 *
 * Used by index.ts (attach to the HTTP server) and by faults (the list of connections).
 */
import type { IncomingMessage, Server } from "node:http";
import type { Socket } from "node:net";
import { GatewayCloseCodes } from "discord-api-types/v10";
import { type WebSocket, WebSocketServer } from "ws";
import { Connection } from "./connection.js";
import { LIMITS } from "./limits.js";
import type { Simulation } from "./simulation.js";

const API_VERSION = "10";

export class Gateway {
  readonly #server = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    // Payloads are bounded by Discord's 4096 bytes; this only keeps a flood out of memory.
    maxPayload: LIMITS.socketBufferBytes,
  });
  readonly #connections = new Set<Connection>();
  /** How long connections to come hold their frames back; set by faults. */
  delayMs = 0;
  #refusals = { count: 0, status: 503 };

  constructor(private readonly simulation: Simulation) {}

  /** Takes over the WebSocket upgrades of an HTTP server. */
  attach(http: Server): void {
    http.on("upgrade", (request: IncomingMessage, socket: Socket, head: Buffer) => {
      if (this.#refuses(socket)) return;
      this.#server.handleUpgrade(request, socket, head, (ws) => this.#accept(ws, request, socket));
    });
  }

  /** Open connections, of one shard id or of all. */
  connections(shard?: number): Connection[] {
    return [...this.#connections].filter(
      (connection) => shard === undefined || connection.session?.identity.shard[0] === shard,
    );
  }

  /** Answers the next `count` upgrades with a status instead. */
  refuseNext(count: number, status: number): void {
    this.#refusals = { count, status };
  }

  /** Closes every connection; those that do not answer in time are cut. */
  close(): void {
    for (const connection of this.#connections) connection.close(1001, "The simulator stops.");
    setTimeout(() => {
      for (const ws of this.#server.clients) ws.terminate();
    }, LIMITS.closeGraceMs).unref();
    this.#server.close();
  }

  #refuses(socket: Socket): boolean {
    if (this.#refusals.count === 0) return false;
    this.#refusals.count--;
    this.simulation.counters.refused++;
    socket.end(`HTTP/1.1 ${this.#refusals.status} Refused\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
    return true;
  }

  #accept(ws: WebSocket, request: IncomingMessage, socket: Socket): void {
    // A broken frame or a reset: "close" follows and does the work.
    ws.on("error", () => {});
    // Dispatches are small and many; waiting for more before sending would only add latency.
    socket.setNoDelay(true);
    const query = new URL(request.url ?? "/", "ws://simulator").searchParams;
    if ((query.get("v") ?? API_VERSION) !== API_VERSION) {
      ws.close(GatewayCloseCodes.InvalidAPIVersion, "Invalid API version: only v=10 is served.");
      return;
    }
    if ((query.get("encoding") ?? "json") !== "json") {
      ws.close(GatewayCloseCodes.DecodeError, "Only encoding=json is served.");
      return;
    }
    const compress = query.get("compress");
    if (compress !== null && compress !== "zlib-stream") {
      ws.close(GatewayCloseCodes.DecodeError, "Only compress=zlib-stream is served.");
      return;
    }
    const connection = new Connection(
      this.simulation,
      `ws://${request.headers.host}`,
      ws,
      socket,
      compress !== null,
    );
    connection.delay(this.delayMs);
    this.#connections.add(connection);
    ws.on("close", () => this.#connections.delete(connection));
  }
}
