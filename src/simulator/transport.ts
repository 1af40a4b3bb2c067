/**
 * How frames reach a client's socket: as text, or through one zlib stream (Gateway, "Transport Compression").
 *
 * Invariants: frames leave in the order they were given, also while a delay changes; with zlib-stream
 * each message ends with the Z_SYNC_FLUSH suffix and all share one context. Used by connection.ts.
 */
import { createDeflate, constants as zlib } from "node:zlib";
import type { WebSocket } from "ws";

/** Called when the frame has been handed to the operating system, or never if the socket died. */
export type Written = () => void;

export interface Transport {
  send(frame: string, written?: Written): void;
  /** Bytes accepted and not yet handed to the operating system. */
  readonly bufferedBytes: number;
  close(): void;
}

export function createTransport(socket: WebSocket, compressed: boolean): Transport {
  return compressed ? zlibStream(socket) : plain(socket);
}

function done(written: Written | undefined) {
  return (error?: Error | null) => {
    if (!error) written?.();
  };
}

function plain(socket: WebSocket): Transport {
  return {
    send: (frame, written) => socket.send(frame, done(written)),
    get bufferedBytes() {
      return socket.bufferedAmount;
    },
    close: () => {},
  };
}

function zlibStream(socket: WebSocket): Transport {
  const deflate = createDeflate({ flush: zlib.Z_SYNC_FLUSH, chunkSize: 32_768 });
  let chunks: Buffer[] = [];
  deflate.on("data", (chunk: Buffer) => chunks.push(chunk));
  // Destroyed with the connection while a frame was inside: there is nobody left to tell.
  deflate.on("error", () => {});
  return {
    send: (frame, written) => {
      deflate.write(frame, (error) => {
        if (error) return;
        const message = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
        chunks = [];
        socket.send(message, { binary: true }, done(written));
      });
    },
    get bufferedBytes() {
      return socket.bufferedAmount + deflate.writableLength;
    },
    close: () => deflate.destroy(),
  };
}

/** Holds frames back for a time (a fault), keeping their order. */
export class DelayLine {
  delayMs = 0;
  #queue: { readonly dueAtMs: number; readonly run: () => void }[] = [];
  #timer: NodeJS.Timeout | null = null;

  run(action: () => void): void {
    if (this.delayMs === 0 && this.#queue.length === 0) {
      action();
      return;
    }
    const last = this.#queue.at(-1)?.dueAtMs ?? 0;
    this.#queue.push({ dueAtMs: Math.max(last, performance.now() + this.delayMs), run: action });
    this.#arm();
  }

  clear(): void {
    this.#queue = [];
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  #arm(): void {
    const first = this.#queue[0];
    if (first === undefined || this.#timer !== null) return;
    this.#timer = setTimeout(
      () => {
        this.#timer = null;
        const nowMs = performance.now();
        const due = this.#queue.filter((item) => item.dueAtMs <= nowMs);
        this.#queue = this.#queue.slice(due.length);
        for (const item of due) item.run();
        this.#arm();
      },
      Math.max(1, first.dueAtMs - performance.now()),
    );
  }
}
