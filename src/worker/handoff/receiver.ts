/**
 * Owns the receiving side of one move: the guilds and dispatches of a shard as they come, then its session
 * (handoff.md).
 *
 * Steps: core/handoff.ts, `ReceiverStep`.
 *
 * Invariants:
 * - Nothing is made up: a guild is what the giver sent, or what the log has once the giver said that it lies there. A
 *   dispatch of a guild that was not told of ends the move.
 * - Messages are taken in the order of their numbers; one that came twice is ignored, a hole ends the move.
 * - The checkpoint of the shard does not move before everything forwarded is committed here, and the giver has said that
 *   nothing of its own is open.
 * - A move that ends "dropped" leaves nothing behind: the guilds are forgotten, the log and the giver have them.
 *
 * If this process dies: the giver hears nothing more and takes back; after goodbye the shard is claimed and RESUMEd by
 * another from the giver's last checkpoint.
 */
import type { GatewayDispatchPayload } from "discord-api-types/v10";
import type { z } from "zod";
import type { Logger } from "../../core/bot.js";
import type { GuildDocument } from "../../core/document.js";
import { assert, messageOf } from "../../core/errors.js";
import {
  type Ask,
  coldMessage,
  type DispatchMessage,
  dispatchMessage,
  type GoodbyeMessage,
  goodbyeMessage,
  nextStep,
  type PartMessage,
  partMessage,
  type ReceiverStep,
  type StateMessage,
  stateMessage,
} from "../../core/handoff.js";
import { limits } from "../../core/limits.js";
import type { HandoffDelivery } from "../../nats/handoff-queue.js";
import type { Guilds } from "../guilds.js";
import type { ShardRunner } from "../shard-runner.js";
import type { Work } from "../work.js";

export type Offer = Extract<Ask, { ask: "offer" }>;

export interface ReceiverOptions {
  offer: Offer;
  runner: ShardRunner;
  guilds: Guilds;
  tell(to: string, message: Ask): void;
  /** Replaces the giver's claim of this revision by ours; false when somebody else was first. */
  claim(shard: number, revision: number): Promise<boolean>;
  onStep(step: ReceiverStep): void;
  onServing(): void;
  onDropped(reason: string): void;
  log: Logger;
}

/** One message on its way to completion. */
interface Received {
  n: number;
  done: boolean;
}

export class Receiver {
  readonly #options: ReceiverOptions;
  #step: ReceiverStep = "preparing";
  /** Guilds that the giver has told of. */
  readonly #told = new Set<string>();
  /** In order; what is done at the front has left. */
  #received: Received[] = [];
  #seen = 0;
  #openDispatches = 0;
  #parts: PartMessage[] = [];
  #pausesMs: number[] = [];
  #reported = { n: 0, seen: 0, at: 0 };
  #giverSettled = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: ReceiverOptions) {
    this.#options = options;
    options.runner.holdCheckpointWhile(() => this.#mayCheckpoint());
    options.onStep("preparing");
  }

  get move(): string {
    return this.#options.offer.move;
  }

  get from(): string {
    return this.#options.offer.from;
  }

  get shard(): number {
    return this.#options.offer.shard;
  }

  get step(): ReceiverStep {
    return this.#step;
  }

  /** Opens the socket, up to HELLO; false when the move was cancelled meanwhile. */
  async prepare(): Promise<boolean> {
    const { runner, offer } = this.#options;
    if (!(await runner.prepare(offer.session.resumeUrl)) || this.#step !== "preparing") return false;
    this.#setStep("receiving");
    this.#timer = setInterval(() => this.#report(), limits.handoffReportIntervalMs);
    return true;
  }

  take(delivery: HandoffDelivery): void {
    try {
      this.#take(delivery);
    } catch (error) {
      this.#fail(messageOf(error));
    }
  }

  /** The giver has nothing of its own open on this shard any more. */
  settled(): void {
    this.#giverSettled = true;
  }

  /** The giver takes it back, or is dead before it said goodbye. */
  cancel(reason: string): void {
    if (this.#step === "serving" || this.#step === "dropped") return;
    this.#drop(reason);
  }

  #take({ kind, guildId, text, ack }: HandoffDelivery): void {
    if (this.#step !== "receiving") {
      ack(); // Of a move that is over.
      return;
    }
    const body: unknown = JSON.parse(text);
    const { n } = body as { n?: unknown };
    assertMessage(typeof n === "number", "a message without a number");
    if (n <= this.#seen) {
      ack();
      return;
    }
    assertMessage(n === this.#seen + 1, `message ${this.#seen + 1} is missing, ${n} came`);
    this.#seen = n;
    if (kind !== "part") {
      this.#apply(kind, guildId, body, n, ack);
      return;
    }
    const part = parse(partMessage, body);
    assertMessage(
      part.index === this.#parts.length,
      `part ${part.index} came, ${this.#parts.length} was next`,
    );
    this.#parts.push(part);
    this.#received.push({ n, done: true });
    ack();
    if (this.#parts.length < part.parts) return;
    const whole: unknown = JSON.parse(this.#parts.map((each) => each.text).join(""));
    this.#parts = [];
    this.#apply(part.kind, guildId, whole, n, () => {});
  }

  #apply(kind: string, guildId: string, body: unknown, n: number, ack: () => void): void {
    switch (kind) {
      case "state":
        this.#adopt(guildId, parse(stateMessage, body));
        break;
      case "cold":
        parse(coldMessage, body);
        this.#told.add(guildId);
        break;
      case "dispatch":
        this.#handle(guildId, parse(dispatchMessage, body), n, ack);
        return;
      case "goodbye":
        void this.#resume(parse(goodbyeMessage, body));
        break;
      default:
        throw new Error(`a message of kind "${kind}"`);
    }
    this.#received.push({ n, done: true });
    ack();
  }

  #adopt(guildId: string, { document, dirty, lockedAt }: StateMessage): void {
    this.#told.add(guildId);
    this.#options.guilds.adopt(guildId, document as GuildDocument, dirty);
    const pauseMs = performance.timeOrigin + performance.now() - lockedAt;
    // Another machine's clock may be ahead or far behind: then it tells nothing.
    if (pauseMs >= 0 && pauseMs < limits.handoffStallMs) this.#pausesMs.push(Math.round(pauseMs * 100) / 100);
  }

  #handle(guildId: string, message: DispatchMessage, n: number, ack: () => void): void {
    assertMessage(this.#told.has(guildId), `a dispatch of guild ${guildId} before its state`);
    const received = { n, done: false };
    this.#received.push(received);
    this.#openDispatches += 1;
    const work: Work = {
      payload: message.d as GatewayDispatchPayload,
      guildId,
      shard: this.shard,
      session: message.session,
      s: message.s,
      receivedAt: message.at,
      complete: () => {
        assert(!received.done, "a forwarded dispatch is completed once");
        received.done = true;
        this.#openDispatches -= 1;
        ack();
      },
    };
    this.#options.guilds.handle(work);
  }

  async #resume({ session, claimRevision }: GoodbyeMessage): Promise<void> {
    const { runner, claim, tell, onServing } = this.#options;
    this.#setStep("resuming");
    // First back on the gateway: the claim can wait a millisecond, dispatches should not.
    runner.resumeAs(session);
    let isOurs: boolean;
    try {
      isOurs = await claim(this.shard, claimRevision);
    } catch (error) {
      this.#fail(`the claim could not be replaced: ${messageOf(error)}`);
      return;
    }
    if (this.#step !== "resuming") return;
    if (!isOurs) {
      this.#fail("the claim is another's");
      return;
    }
    this.#setStep("serving");
    tell(this.from, { ask: "took", move: this.move });
    onServing();
  }

  #mayCheckpoint(): boolean {
    return this.#step === "serving" && this.#openDispatches === 0 && this.#giverSettled;
  }

  /** How far all is committed; now and then also without news, so that the giver knows us alive. */
  #report(): void {
    let done = 0;
    while (done < this.#received.length && this.#received[done]!.done) done += 1;
    if (done > 0) this.#received = this.#received.slice(done);
    const n = (this.#received[0]?.n ?? this.#seen + 1) - 1;
    const { seen, at, n: before } = this.#reported;
    const now = performance.now();
    const isNews = n !== before || this.#seen !== seen || this.#pausesMs.length > 0;
    if (!isNews && now - at < limits.handoffStallMs / 5) return;
    this.#reported = { n, seen: this.#seen, at: now };
    const pausesMs = this.#pausesMs;
    this.#pausesMs = [];
    this.#options.tell(this.from, { ask: "committed", move: this.move, n, seen: this.#seen, pausesMs });
    // All that was forwarded is in the log and the giver has let go: nothing is left to report.
    if (this.#mayCheckpoint()) clearInterval(this.#timer);
  }

  #fail(reason: string): void {
    if (this.#step === "serving" || this.#step === "dropped") return;
    this.#options.tell(this.from, { ask: "failed", move: this.move, reason });
    this.#drop(reason);
  }

  #drop(reason: string): void {
    this.#setStep("dropped");
    clearInterval(this.#timer);
    this.#options.onDropped(reason);
  }

  #setStep(step: ReceiverStep): void {
    this.#step = nextStep("receiver", this.#step, step);
    this.#options.onStep(step);
  }
}

/** What another process sent is not what was agreed: the move ends, nothing is guessed. */
function assertMessage(condition: boolean, message: string): asserts condition {
  if (!condition) throw new Error(message);
}

function parse<T>(schema: z.ZodType<T>, body: unknown): T {
  const parsed = schema.safeParse(body);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw new Error(`a message of the wrong shape: ${issue?.path.join(".")}: ${issue?.message}`);
}
