/**
 * Owns the embedded nats-server of a run: started on the data folder, started again on the same port and store when it
 * dies, given up when it keeps dying.
 */
import { GuildstreamError, messageOf } from "../../core/errors.js";
import { limits } from "../../core/limits.js";
import { type EmbeddedServer, startEmbeddedServer } from "../../nats/embedded.js";

export interface KeeperOptions {
  dataDir: string;
  onSpawn: (pid: number) => void;
  onNote: (text: string) => void;
}

export class NatsKeeper {
  restarted = 0;
  /** Rejects when the server is given up; never resolves. */
  readonly failed: Promise<never>;
  readonly #options: KeeperOptions;
  readonly #server: EmbeddedServer;
  #fail!: (error: unknown) => void;
  #stopping = false;

  private constructor(server: EmbeddedServer, options: KeeperOptions) {
    this.#server = server;
    this.#options = options;
    this.failed = new Promise((_, reject) => {
      this.#fail = reject;
    });
    this.failed.catch(() => {}); // Raced by the supervisor for as long as it matters.
    void this.#keep();
  }

  /** @throws GuildstreamError when there is no server to be had or it does not start. */
  static async start(options: KeeperOptions): Promise<NatsKeeper> {
    return new NatsKeeper(await startEmbeddedServer({ dataDir: options.dataDir }), options);
  }

  get url(): string {
    return this.#server.url;
  }

  get pid(): number {
    return this.#server.pid;
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#server.stop();
  }

  /** For leaving at once; its data are as after a crash, which it is made for. */
  kill(): void {
    this.#stopping = true;
    void this.#server.kill();
  }

  async #keep(): Promise<void> {
    let deaths: number[] = [];
    for (;;) {
      this.#options.onSpawn(this.#server.pid);
      const { code, signal } = await this.#server.exited;
      if (this.#stopping) return;
      const how = signal ?? `exit code ${code}`;
      const now = performance.now();
      deaths = [...deaths.filter((at) => now - at < limits.ops.crashWindowMs), now];
      if (deaths.length >= limits.ops.crashesMax) {
        const message = `nats-server ended ${deaths.length} times in ${limits.ops.crashWindowMs / 1_000} s, last by ${how}`;
        const hint = `its log is ${this.#server.logFile}`;
        this.#fail(new GuildstreamError("NATS_SERVER_START_FAILED", message, { hint }));
        return;
      }
      this.#options.onNote(`nats-server ended (${how}); starting it again`);
      const waitMs = Math.min(limits.ops.restartMinMs * 2 ** (deaths.length - 1), limits.ops.restartMaxMs);
      await new Promise((resolve) => setTimeout(resolve, waitMs));
      if (this.#stopping) return;
      try {
        await this.#server.restart();
        this.restarted += 1;
      } catch (error) {
        if (this.#stopping) return;
        this.#options.onNote(`nats-server does not start: ${messageOf(error).split("\n")[0]}`);
      }
    }
  }
}
