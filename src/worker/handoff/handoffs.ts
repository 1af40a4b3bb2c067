/**
 * Owns all moves of one life, given and received: routes questions and messages to them (handoff.md).
 *
 * Invariants:
 * - A shard is in one move at a time; a second offer of it is refused.
 * - A receiver whose giver is dead before goodbye is dropped: the shard is claimed as after any death.
 *
 * Called by the worker's life.
 */
import type { Logger } from "../../core/bot.js";
import { messageOf } from "../../core/errors.js";
import type { Answer, Ask, GiverStep, ReceiverStep } from "../../core/handoff.js";
import { limits } from "../../core/limits.js";
import { answerAsks, askWorker, tellWorker } from "../../nats/ask.js";
import type { NatsConnection } from "../../nats/connect.js";
import { type HandoffDelivery, HandoffReceiver, sendHandoff } from "../../nats/handoff-queue.js";
import type { Guilds } from "../guilds.js";
import type { ShardRunner } from "../shard-runner.js";
import { type GivenShard, Giver } from "./giver.js";
import { type Offer, Receiver } from "./receiver.js";

export interface HandoffsOptions {
  nc: NatsConnection;
  /** This life's name on the wire. */
  life: string;
  bot: { name: string; stateVersion: number };
  guilds: Guilds;
  /** Whether this life takes shards now; the reason when it does not. */
  refusal(offer: Offer): string | undefined;
  /** A runner for the offered shard, not connected. */
  makeRunner(offer: Offer): ShardRunner;
  claim(shard: number, revision: number): Promise<boolean>;
  claimRevision(shard: number): number;
  reclaim(shard: number): Promise<boolean>;
  /** Whether that life's member still beats. */
  isAlive(life: string): boolean;
  onServing(shard: number): void;
  /** Nothing of the shard is kept here. */
  onDropped(shard: number, reason: string): void;
  onStep(role: "giver" | "receiver", step: GiverStep | ReceiverStep, shard: number): void;
  onGuildMoved(): void;
  onPauses(pausesMs: readonly number[]): void;
  /** What is not about a move. */
  onAsk(question: Ask): Answer | Promise<Answer>;
  messageMaxBytes(): number;
  log: Logger;
}

export class Handoffs {
  readonly #options: HandoffsOptions;
  readonly #givers = new Map<string, Giver>();
  readonly #receivers = new Map<string, Receiver>();
  readonly #stopAsks: () => void;
  #queue: { ready: Promise<void>; receiver: HandoffReceiver } | undefined;
  readonly #timer: NodeJS.Timeout;

  constructor(options: HandoffsOptions) {
    this.#options = options;
    this.#stopAsks = answerAsks(options.nc, options.life, (question) => this.#answer(question));
    this.#timer = setInterval(() => this.#dropOrphans(), limits.heartbeatIntervalMs / 2);
  }

  /** Moves a shard to another life; resolves "gone", or why it is still here. Never rejects. */
  async give(
    shard: number,
    shardCount: number,
    to: string,
    given: GivenShard,
  ): Promise<"gone" | { returned: string }> {
    const { nc, life, bot, guilds, log, claimRevision, reclaim } = this.#options;
    const giver = new Giver({
      shard,
      shardCount,
      from: life,
      to,
      bot,
      given,
      guilds,
      ask: (name, question, timeoutMs) => askWorker(nc, name, question, timeoutMs),
      tell: (name, message) => tellWorker(nc, name, message),
      send: (name, guildId, kind, text) => sendHandoff(nc, name, guildId, kind, text),
      messageMaxBytes: this.#options.messageMaxBytes,
      claimRevision: () => claimRevision(shard),
      reclaim: () => reclaim(shard),
      onStep: (step) => this.#options.onStep("giver", step, shard),
      onGuildMoved: this.#options.onGuildMoved,
      onPauses: this.#options.onPauses,
      log,
    });
    this.#givers.set(giver.move, giver);
    const outcome = await giver.run();
    // After "gone" the receiver still reports what it commits; the giver is forgotten with the life.
    if (outcome !== "gone") this.#givers.delete(giver.move);
    else await giver.finish(performance.now() + limits.drainTimeoutMs);
    return outcome;
  }

  /** Takes back whatever is being given. */
  cancelGiving(reason: string): void {
    for (const giver of this.#givers.values()) giver.cancel(reason);
  }

  /** Drops whatever is being received. */
  cancelReceiving(reason: string): void {
    for (const receiver of this.#receivers.values()) receiver.cancel(reason);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#stopAsks();
    this.cancelGiving("this life ends");
    this.cancelReceiving("this life ends");
    this.#queue?.receiver.stop();
    this.#queue = undefined;
  }

  #answer(question: Ask): Answer | Promise<Answer> {
    switch (question.ask) {
      case "offer":
        return this.#receive(question);
      case "cancel":
        this.#receivers.get(question.move)?.cancel(question.reason);
        return { ok: true };
      case "settled":
        this.#receivers.get(question.move)?.settled();
        return { ok: true };
      case "committed":
        this.#givers.get(question.move)?.committed(question.n, question.seen, question.pausesMs);
        return { ok: true };
      case "took":
        this.#givers.get(question.move)?.took();
        return { ok: true };
      case "failed":
        this.#givers.get(question.move)?.cancel(`the receiver gave up: ${question.reason}`);
        return { ok: true };
      default:
        return this.#options.onAsk(question);
    }
  }

  async #receive(offer: Offer): Promise<Answer> {
    const { guilds, log, claim, bot } = this.#options;
    const reason = this.#options.refusal(offer) ?? wrongBot(offer, bot) ?? this.#busyWith(offer.shard);
    if (reason !== undefined) return { ok: false, reason };
    const receiver = new Receiver({
      offer,
      runner: this.#options.makeRunner(offer),
      guilds,
      tell: (name, message) => tellWorker(this.#options.nc, name, message),
      claim,
      onStep: (step) => this.#options.onStep("receiver", step, offer.shard),
      onServing: () => this.#options.onServing(offer.shard),
      onDropped: (why) => {
        this.#receivers.delete(offer.move);
        this.#options.onDropped(offer.shard, why);
      },
      log,
    });
    this.#receivers.set(offer.move, receiver);
    try {
      const [isPrepared] = await Promise.all([receiver.prepare(), this.#openQueue()]);
      return isPrepared ? { ok: true } : { ok: false, reason: "cancelled" };
    } catch (error) {
      receiver.cancel(messageOf(error));
      return { ok: false, reason: messageOf(error) };
    }
  }

  #busyWith(shard: number): string | undefined {
    for (const receiver of this.#receivers.values()) {
      if (receiver.shard === shard && receiver.step !== "serving")
        return `shard ${shard} is on its way here already`;
    }
    return undefined;
  }

  /** The consumer of this life, made again when its server has forgotten it. */
  async #openQueue(): Promise<void> {
    if (this.#queue !== undefined && !(await this.#queue.receiver.isThere())) {
      this.#queue.receiver.stop();
      this.#queue = undefined;
    }
    if (this.#queue === undefined) {
      const receiver = new HandoffReceiver(this.#options.nc, this.#options.life, (delivery) =>
        this.#deliver(delivery),
      );
      const ready = receiver.start();
      this.#queue = { ready, receiver };
      ready.catch(() => {
        this.#queue = undefined;
      });
    }
    await this.#queue.ready;
  }

  #deliver(delivery: HandoffDelivery): void {
    const move = /"move":"([^"]+)"/.exec(delivery.text)?.[1];
    const receiver = move === undefined ? undefined : this.#receivers.get(move);
    if (receiver === undefined)
      delivery.ack(); // Of a move that is over, or garbage.
    else receiver.take(delivery);
  }

  #dropOrphans(): void {
    for (const receiver of this.#receivers.values()) {
      if (receiver.step !== "serving" && !this.#options.isAlive(receiver.from))
        receiver.cancel("the giver is dead");
    }
  }
}

function wrongBot(offer: Offer, bot: { name: string; stateVersion: number }): string | undefined {
  if (offer.bot !== bot.name) return `it runs the bot "${bot.name}", not "${offer.bot}"`;
  if (offer.stateVersion > bot.stateVersion) {
    return `its bot has state version ${bot.stateVersion}, older than ${offer.stateVersion}`;
  }
  return undefined;
}
