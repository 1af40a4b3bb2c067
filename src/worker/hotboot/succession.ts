/**
 * Owns who takes this worker's place: at most one hotboot at a time, whoever asked for it (a signal, the operator over
 * NATS, a child that the platform has started), and what is answered to questions about it.
 *
 * Invariant: a worker that is replaced hands nothing over when it stops: there is nothing left.
 */
import type { AnyBot, Logger } from "../../core/bot.js";
import { GuildstreamError } from "../../core/errors.js";
import type { Answer, Ask, ParentStep } from "../../core/handoff.js";
import type { HotbootProgress, MemberStatus } from "../../core/members.js";
import type { Life } from "../life.js";
import { HotbootParent, type ParentOptions, type Successor } from "./parent.js";

export interface SuccessionOptions
  extends Pick<ParentOptions, "ask" | "cedePlace" | "isPlaced" | "keepPlace" | "log"> {
  id: string;
  bot: AnyBot;
  log: Logger;
  life(): Life;
  incarnation(): string;
  status(): MemberStatus;
  /** Starts the child; undefined where this process cannot. */
  spawn: (() => Promise<Successor>) | undefined;
  /** Our entry says something else now. */
  beat(): Promise<void>;
  onStep(step: ParentStep): void;
  /** A hotboot that nobody in this process waits for has come to its end. */
  onReplaced(): void;
}

export class Succession {
  readonly #options: SuccessionOptions;
  #parent: HotbootParent | undefined;
  #running: Promise<void> | undefined;
  #attempts = 0;
  #successor = "";
  #isReplaced = false;

  constructor(options: SuccessionOptions) {
    this.#options = options;
  }

  /** The incarnation that counts as this worker; "" when there is none. */
  get successor(): string {
    return this.#successor;
  }

  /** Of the hotboot underway, or the last one. */
  get progress(): HotbootProgress | undefined {
    return this.#parent?.progress;
  }

  /** The successor has everything. */
  get isReplaced(): boolean {
    return this.#isReplaced;
  }

  /** @throws GuildstreamError HOTBOOT_FAILED, HOTBOOT_REFUSED, HOTBOOT_DISMISSED (a dry run): going on as before. */
  async hotboot(dryRun: boolean): Promise<void> {
    const { spawn, id } = this.#options;
    if (spawn === undefined) {
      throw new GuildstreamError("HOTBOOT_REFUSED", `${id} cannot start a successor by itself`, {
        hint: `start it where you like: worker --hotboot ${id}`,
      });
    }
    const refused = this.#refusal();
    if (refused !== undefined) throw new GuildstreamError("HOTBOOT_REFUSED", refused);
    await this.#run(spawn, dryRun);
  }

  /** Ends whatever is underway; resolves when everything is here again, or gone. */
  async cancel(reason: string): Promise<void> {
    if (this.#running === undefined) return;
    this.#parent?.cancel(reason);
    await this.#running.catch(() => {});
  }

  guildMoved(): void {
    this.#parent?.guildMoved();
  }

  paused(pausesMs: readonly number[]): void {
    this.#parent?.paused(pausesMs);
  }

  answer(question: Ask): Answer {
    switch (question.ask) {
      case "hotboot":
        return this.#asked(question.dryRun);
      case "abort":
        if (this.#running === undefined) return { ok: false, reason: "no hotboot is underway" };
        this.#parent?.cancel("aborted by the operator");
        return { ok: true };
      case "hello": {
        const refused = this.#running === undefined ? this.#refusal() : undefined;
        if (refused !== undefined) return { ok: false, reason: refused };
        // The platform has started the child itself.
        if (this.#running === undefined) this.#runUnattended(undefined, false);
        return this.#parent!.greet(question);
      }
      case "ready":
        return this.#parent?.ready(question.life) ?? { ok: false, reason: "no hotboot is underway" };
      default:
        return { ok: false, reason: `a worker does not answer "${question.ask}"` };
    }
  }

  #asked(dryRun: boolean): Answer {
    const { spawn, id } = this.#options;
    if (spawn === undefined) {
      return {
        ok: false,
        reason: `it cannot start a successor by itself; start one: worker --hotboot ${id}`,
      };
    }
    const reason = this.#refusal();
    if (reason !== undefined) return { ok: false, reason };
    this.#runUnattended(spawn, dryRun);
    return { ok: true };
  }

  #refusal(): string | undefined {
    const status = this.#options.status();
    if (this.#running !== undefined) return "a hotboot is underway already";
    return status === "ready" ? undefined : `it is ${status}`;
  }

  #runUnattended(spawn: (() => Promise<Successor>) | undefined, dryRun: boolean): void {
    this.#run(spawn, dryRun).then(
      () => this.#options.onReplaced(),
      () => {}, // Told in the log and in our entry.
    );
  }

  async #run(spawn: (() => Promise<Successor>) | undefined, dryRun: boolean): Promise<void> {
    const { life, incarnation, bot, beat, ...options } = this.#options;
    this.#attempts += 1;
    this.#parent = new HotbootParent({
      life: life(),
      incarnation: incarnation(),
      bot: { name: bot.name, stateVersion: bot.state.version },
      dryRun,
      attempt: this.#attempts,
      spawn,
      ask: options.ask,
      announce: async (successor = "") => {
        this.#successor = successor;
        await beat();
      },
      cedePlace: options.cedePlace,
      isPlaced: options.isPlaced,
      keepPlace: options.keepPlace,
      onStep: options.onStep,
      log: options.log,
    });
    this.#running = this.#parent.run();
    try {
      await this.#running;
      this.#isReplaced = true;
    } finally {
      this.#running = undefined;
      if (!this.#isReplaced) void beat();
    }
  }
}
