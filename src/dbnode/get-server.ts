/**
 * Owns the answers on `dbnode.<id>.get`: a guild's document at least as new as asked, or how far the node is.
 *
 * Invariants:
 * - A found document reflects every message of the stream up to `atLeastSeq`; it may come from folded memory, since
 *   whoever asks only needs what the stream has, and the stream has it.
 * - A tombstone is found, with its place in the log and the state null (JSON has no undefined).
 * - A broken guild is never served. Garbage is ignored; nothing that is sent here throws.
 * - Waiting requests are bounded in number and time. If the process dies, they time out and ask the next node.
 */
import { messageOf } from "../core/errors.js";
import { isSnowflake } from "../core/ids.js";
import { limits } from "../core/limits.js";
import { type GetReply, type GetRequest, getRequest } from "../core/members.js";
import { dbnodeSubjects } from "../core/subjects.js";
import type { Store, StoredDocument } from "../disk/store.js";
import type { NatsConnection } from "../nats/connect.js";
import type { Documents } from "./documents.js";
import type { NodeLog } from "./node-log.js";

export interface GetServerOptions {
  nc: NatsConnection;
  id: string;
  documents: Documents;
  store: Store;
  folded: () => number;
  log: NodeLog;
}

interface Waiting {
  request: GetRequest;
  respond: (text: string) => void;
  timer: NodeJS.Timeout;
}

export class GetServer {
  readonly #options: GetServerOptions;
  readonly #waiting = new Set<Waiting>();
  readonly #stop: () => void;

  constructor(options: GetServerOptions) {
    this.#options = options;
    const subscription = options.nc.subscribe(dbnodeSubjects.get(options.id), {
      callback: (error, msg) => {
        if (error !== null || msg.reply === undefined || msg.reply === "") return;
        this.#onRequest(msg.data, (text) => this.#send(msg.reply!, text));
      },
    });
    this.#stop = () => subscription.unsubscribe();
  }

  /** More was folded: answers who waited for it. */
  progress(): void {
    if (this.#waiting.size === 0) return;
    const folded = this.#options.folded();
    for (const waiting of this.#waiting) {
      if (waiting.request.atLeastSeq > folded) continue;
      this.#waiting.delete(waiting);
      clearTimeout(waiting.timer);
      waiting.respond(this.#answer(waiting.request.guildId));
    }
  }

  /** Takes no more requests; who waits is told how far the node is. */
  stop(): void {
    this.#stop();
    for (const waiting of this.#waiting) {
      clearTimeout(waiting.timer);
      waiting.respond(this.#behind());
    }
    this.#waiting.clear();
  }

  #onRequest(data: Uint8Array, respond: (text: string) => void): void {
    const request = parseRequest(data);
    if (request === undefined) {
      this.#options.log.debug({ bytes: data.length }, "ignored a get request that is not valid");
      return;
    }
    if (request.atLeastSeq <= this.#options.folded()) {
      respond(this.#answer(request.guildId));
    } else if (this.#waiting.size >= limits.dbGetWaitersMax) {
      respond(this.#behind());
    } else {
      const timer = setTimeout(() => {
        this.#waiting.delete(waiting);
        respond(this.#behind());
      }, limits.dbGetWaitMs);
      const waiting: Waiting = { request, respond, timer };
      this.#waiting.add(waiting);
    }
  }

  #behind(): string {
    return JSON.stringify({ outcome: "behind", received: this.#options.folded() } satisfies GetReply);
  }

  #answer(guildId: string): string {
    const unknown: GetReply = { outcome: "unknown", saved: this.#options.store.watermark.saved };
    if (!isSnowflake(guildId)) return JSON.stringify(unknown);
    const entry = this.#options.documents.peek(guildId);
    if (entry !== undefined) {
      if (entry.broken !== undefined) return quarantined(entry.broken);
      if (entry.document.rev === 0) return JSON.stringify(unknown);
      const { state = null, ...place } = entry.document;
      return JSON.stringify({ outcome: "found", document: { ...place, state } } satisfies GetReply);
    }
    let stored: StoredDocument | undefined;
    try {
      stored = this.#options.store.read(guildId);
    } catch (error) {
      this.#options.log.error({ guildId, error: messageOf(error) }, "a stored document cannot be served");
      return quarantined(messageOf(error));
    }
    if (stored === undefined) return JSON.stringify(unknown);
    if (stored.broken !== undefined) return quarantined(stored.broken);
    const { rev, epoch, seq, by, cursor, stateText } = stored;
    const place = JSON.stringify({ rev, epoch, seq, by, cursor });
    // The state's text goes out as it lies on disk, unparsed.
    const state = stateText === "" ? "null" : stateText;
    return `{"outcome":"found","document":${place.slice(0, -1)},"state":${state}}}`;
  }

  #send(reply: string, text: string): void {
    const { nc, log } = this.#options;
    try {
      nc.publish(reply, text);
    } catch (error) {
      log.warn({ error: messageOf(error), length: text.length }, "a get answer could not be sent");
      if (nc.isClosed() || text.length < 1024) return;
      nc.publish(reply, quarantined("the document is larger than the NATS server's max_payload"));
    }
  }
}

function quarantined(reason: string): string {
  return JSON.stringify({ outcome: "quarantined", reason } satisfies GetReply);
}

function parseRequest(data: Uint8Array): GetRequest | undefined {
  try {
    const parsed = getRequest.safeParse(JSON.parse(Buffer.from(data).toString("utf8")));
    return parsed.success ? parsed.data : undefined;
  } catch {
    return undefined;
  }
}
