/**
 * Owns the last picture of the list on disk: for a boot at which NATS answers but the list-server does not. It says
 * which database nodes to ask for guilds; it claims nothing.
 *
 * Invariants: the file is replaced atomically; one that cannot be read or written costs a warning and nothing else.
 */
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { z } from "zod";
import type { Logger } from "../core/bot.js";
import { messageOf } from "../core/errors.js";
import { limits } from "../core/limits.js";
import type { BucketEntry } from "../nats/bucket-watch.js";

const content = z.object({
  v: z.literal(1),
  entries: z.array(z.object({ key: z.string(), value: z.unknown() })),
});

export class ListCache {
  readonly #file: string;
  readonly #log: Logger;
  #timer: NodeJS.Timeout | undefined;

  constructor(file: string, log: Logger) {
    this.#file = file;
    this.#log = log;
  }

  async read(): Promise<BucketEntry[] | undefined> {
    try {
      const { entries } = content.parse(JSON.parse(await readFile(this.#file, "utf8")));
      return entries.map(({ key, value }) => ({ key, value, revision: 0 }));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") {
        this.#log.warn(
          { event: "list_cache_unreadable", file: this.#file, error: messageOf(error) },
          "the list on disk is of no use",
        );
      }
      return undefined;
    }
  }

  /** The picture has changed: it is written within the interval. */
  note(entries: () => BucketEntry[]): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      void this.#write(entries());
    }, limits.listCacheIntervalMs).unref();
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  async #write(entries: readonly BucketEntry[]): Promise<void> {
    const kept = entries.flatMap(({ key, value }) => (value === undefined ? [] : [{ key, value }]));
    const next = `${this.#file}.next`;
    try {
      await mkdir(dirname(this.#file), { recursive: true });
      await writeFile(next, JSON.stringify({ v: 1, entries: kept }));
      await rename(next, this.#file);
    } catch (error) {
      this.#log.warn(
        { event: "list_cache_unwritable", file: this.#file, error: messageOf(error) },
        "the list was not kept on disk",
      );
    }
  }
}
