/** What the stories of the database node share: a server, nodes in temp folders, events published as a worker would. */
import { join } from "node:path";
import type { ExecutionContext } from "ava";
import { Events, headers } from "nats";
import { type GetReply, getReply } from "../../src/core/members.js";
import { guildSubject, kindHeader, rollupHeader } from "../../src/core/subjects.js";
import { type Dbnode, runDbnode } from "../../src/dbnode/dbnode.js";
import { connectNats, type NatsConnection } from "../../src/nats/connect.js";
import { ensureStreams } from "../../src/nats/definitions.js";
import { tempDir, withServer } from "../helpers/nats.js";

export const guildIds = Array.from({ length: 40 }, (_, index) =>
  String((1_000_000_000_000n + BigInt(index)) << 22n),
);

/** Waits for a condition by asking again; fails by name. */
export async function until(what: string, condition: () => boolean, timeoutMs = 20_000): Promise<void> {
  const end = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`not in ${timeoutMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

export interface Logged {
  level: string;
  fields: Record<string, unknown>;
  message: string;
}

export class Harness {
  readonly logged: Logged[] = [];
  readonly #revs = new Map<string, number>();

  private constructor(
    readonly t: ExecutionContext,
    readonly server: Awaited<ReturnType<typeof withServer>>,
    readonly nc: NatsConnection,
    readonly folder: string,
  ) {}

  static async open(t: ExecutionContext, version?: string): Promise<Harness> {
    const folder = await tempDir(t);
    const server = await withServer(t, version === undefined ? {} : { version });
    const nc = await connectNats({ url: server.url, name: "test" });
    t.teardown(() => nc.close());
    await ensureStreams(nc);
    return new Harness(t, server, nc, folder);
  }

  dataDir(id: string): string {
    return join(this.folder, id);
  }

  /** Starts the server again; resolves once the publishing connection is on the new one. */
  async restart(): Promise<void> {
    const reconnected = (async () => {
      for await (const status of this.nc.status()) if (status.type === Events.Reconnect) return;
    })();
    await this.server.restart();
    await reconnected;
  }

  /** A node with a connection of its own, stopped when the test ends. */
  async node(id: string, options: { cacheBytes?: number } = {}): Promise<Dbnode> {
    const nc = await connectNats({ url: this.server.url, name: id });
    this.t.teardown(() => nc.close());
    const log = Object.fromEntries(
      ["debug", "info", "warn", "error"].map((level) => [
        level,
        (fields: Record<string, unknown>, message: string) => this.logged.push({ level, fields, message }),
      ]),
    ) as never;
    const node = await runDbnode({ id, nc, dataDir: this.dataDir(id), log, ...options });
    this.t.teardown(() => node.stop());
    return node;
  }

  /** Publishes anything on a subject; resolves with its sequence. */
  async raw(subject: string, kind: string | undefined, body: string, rollup = false): Promise<number> {
    const head = headers();
    if (kind !== undefined) head.set(kindHeader, kind);
    if (rollup) head.set(rollupHeader, "sub");
    return (await this.nc.jetstream().publish(subject, body, { headers: head })).seq;
  }

  /** The next event of a guild, which counts. */
  event(guildId: string, change: { rev?: number; epoch?: number; ops?: unknown[] } = {}): Promise<number> {
    const rev = change.rev ?? (this.#revs.get(guildId) ?? 0) + 1;
    this.#revs.set(guildId, rev);
    const first = [{ op: "replace", path: "", value: { count: 1, guildId } }];
    const ops = change.ops ?? (rev === 1 ? first : [{ op: "replace", path: "/count", value: rev }]);
    const cause = { shard: 0, session: "abc", s: rev, t: "MESSAGE_CREATE" };
    const body = { v: 1, rev, epoch: change.epoch ?? 1, by: "w", at: 1, ops, cause };
    return this.raw(guildSubject(guildId), "event", JSON.stringify(body));
  }

  snapshot(guildId: string, rev: number, state: unknown, epoch = 1): Promise<number> {
    this.#revs.set(guildId, rev);
    const body = { v: 1, rev, epoch, by: "w", at: 1, state, cursor: null, head: 0 };
    return this.raw(guildSubject(guildId), "snapshot", JSON.stringify(body), true);
  }

  tombstone(guildId: string, rev: number): Promise<number> {
    const body = { v: 1, rev, epoch: 1, by: "w", at: 1 };
    return this.raw(guildSubject(guildId), "tombstone", JSON.stringify(body), true);
  }

  async get(id: string, guildId: string, atLeastSeq: number): Promise<GetReply> {
    const request = JSON.stringify({ v: 1, guildId, atLeastSeq });
    const msg = await this.nc.request(`dbnode.${id}.get`, request, { timeout: 5_000 });
    return getReply.parse(JSON.parse(Buffer.from(msg.data).toString()));
  }
}

/** The state in a reply that must have found the guild. */
export function stateOf(reply: GetReply): unknown {
  if (reply.outcome !== "found") throw new Error(`not found: ${JSON.stringify(reply)}`);
  return reply.document.state;
}
