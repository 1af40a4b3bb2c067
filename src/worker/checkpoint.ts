/**
 * Owns a shard's checkpoint in the list-server, `session.<n>`: the session, and the sequence up to which everything of
 * it is durable. Whoever serves the shard next RESUMEs from there.
 *
 * Invariants:
 * - It is written by compare-and-set: a worker that lost the shard cannot move it any more, and is told so (`onLost`).
 * - While it is held back (a shard that is being received), nothing is written.
 *
 * If the process dies between two writes, more is replayed, and recognised by the guilds' cursors.
 */
import type { ClusterList } from "../cluster/list.js";
import type { Logger } from "../core/bot.js";
import { messageOf } from "../core/errors.js";
import type { SessionEntry } from "../core/members.js";
import { clusterKeys } from "../core/subjects.js";
import type { SessionInfo } from "../discord/shard.js";

export interface CheckpointOptions {
  list: ClusterList;
  shard: number;
  shardCount: number;
  /** This worker's life, as its claims name it. */
  incarnation: string;
  log: Logger;
  /** The first checkpoint of a session is stored. */
  onNewSession(): void;
  /** Another worker moved it. */
  onLost(): void;
}

export class Checkpoint {
  readonly #options: CheckpointOptions;
  readonly #key: string;
  #stored: SessionEntry | undefined;
  #revision: number;
  #writing: Promise<void> | undefined;
  /** The list-server was made anew: what it should know of the session, it does not. */
  #unlisted = false;
  #mayWrite: () => boolean = () => true;
  #stopped = false;
  readonly #stopRebuilt: () => void;

  /** `onRebuilt`: the list-server was made anew, the checkpoint is to be written again. */
  constructor(options: CheckpointOptions, onRebuilt: () => void) {
    const { list, shard, shardCount } = options;
    this.#options = options;
    this.#key = clusterKeys.session(shard);
    const stored = list.session(shard);
    this.#stored = stored?.shardCount === shardCount ? stored : undefined;
    this.#revision = list.revisionOf(this.#key);
    this.#stopRebuilt = list.onRebuilt(() => {
      this.#revision = 0;
      this.#unlisted = true;
      onRebuilt();
    });
  }

  /** As the list-server has it; a session of another shard count is of no use. */
  get stored(): SessionEntry | undefined {
    return this.#stored;
  }

  /** Nothing is written while `mayWrite` says no. */
  holdWhile(mayWrite: () => boolean): void {
    this.#mayWrite = mayWrite;
  }

  /** What is stored by now, by whoever had the shard before. */
  catchUp(): void {
    const { list, shard } = this.#options;
    this.#stored = list.session(shard);
    this.#revision = list.revisionOf(this.#key);
  }

  /** Stores that everything up to here is durable, when that is news. One write at a time; a later call brings the rest. */
  write(session: SessionInfo): Promise<void> {
    if (this.#writing !== undefined) return this.#writing;
    const before = this.#stored;
    const isKnown = before?.sessionId === session.sessionId && before.s >= session.s && !this.#unlisted;
    if (this.#stopped || isKnown || !this.#mayWrite()) return Promise.resolve();
    this.#writing = this.#write(session).finally(() => {
      this.#writing = undefined;
    });
    return this.#writing;
  }

  stop(): void {
    this.#stopped = true;
    this.#stopRebuilt();
  }

  async #write(session: SessionInfo): Promise<void> {
    const { list, shard, incarnation, log, onNewSession, onLost } = this.#options;
    const before = this.#stored;
    const entry = { ...session, at: Date.now() };
    try {
      const revision = await list.compareAndSet(this.#key, entry, this.#revision);
      if (revision !== undefined) {
        this.#revision = revision;
        this.#stored = entry;
        this.#unlisted = false;
        if (before?.sessionId !== entry.sessionId) onNewSession();
        return;
      }
      if (this.#stopped) return;
      // Ours after all (an answer that got lost, a bucket made anew), or another owner's: the claim tells.
      if (list.shard(shard)?.incarnation === incarnation) {
        this.#revision = (await list.get(this.#key))?.revision ?? 0;
      } else {
        log.warn({ event: "checkpoint_lost", shard }, "another worker holds this shard");
        onLost();
      }
    } catch (error) {
      const fields = { event: "checkpoint_failed", shard, error: messageOf(error) };
      log.warn(fields, "the list-server does not answer");
    }
  }
}
