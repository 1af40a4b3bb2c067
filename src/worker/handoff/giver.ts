/**
 * Owns the giving side of one move: one shard's guilds, and then its session, to another worker's life (handoff.md).
 *
 * Steps: core/handoff.ts, `GiverStep`.
 *
 * Invariants:
 * - A guild is here or there: its state is sent once nothing of it is in flight, and from that moment on its dispatches
 *   are forwarded, in order, by whoever holds the shard's ring, which is still us.
 * - A forwarded dispatch stays open here until the receiver has committed it: our checkpoint does not pass it, so that
 *   losing the queue, the receiver or ourselves loses nothing; RESUME replays it.
 * - A move ends "gone" or "returned". Returned: every guild comes back from the log, and what the receiver has not
 *   committed runs again here; what it had is recognised by the guild's cursor.
 *
 * If this process dies: before goodbye the shard is claimed and RESUMEd by another as after any death; after it the
 * receiver has it, or the same.
 */
import { randomUUID } from "node:crypto";
import type { Logger } from "../../core/bot.js";
import { messageOf } from "../../core/errors.js";
import {
  type Answer,
  type Ask,
  type GiverStep,
  type HandoffKind,
  handoffVersion,
  nextStep,
} from "../../core/handoff.js";
import { limits } from "../../core/limits.js";
import { wholeMove } from "../../core/subjects.js";
import type { SessionInfo } from "../../discord/shard.js";
import type { DepartedGuild, Guilds } from "../guilds.js";
import type { Work } from "../work.js";

/** What the move needs of the shard that it gives. */
export interface GivenShard {
  readonly session: SessionInfo | null;
  /** Dispatches that are not complete yet. */
  readonly open: number;
  /** Goes off the gateway at once, resumably; no dispatch is taken after it. */
  leave(): Promise<SessionInfo | null>;
  /** Back on the gateway, with the session that `leave` gave. */
  comeBack(session: SessionInfo | null): void;
}

export interface GiverOptions {
  shard: number;
  shardCount: number;
  /** The lives that give and take. */
  from: string;
  to: string;
  bot: { name: string; stateVersion: number };
  given: GivenShard;
  guilds: Guilds;
  ask(to: string, question: Ask, timeoutMs: number): Promise<Answer>;
  tell(to: string, message: Ask): void;
  send(to: string, guildId: string, kind: HandoffKind, text: string): void;
  messageMaxBytes(): number;
  /** The revision of our claim now. */
  claimRevision(): number;
  /** The claim replaced by itself, so that the receiver's own replacing fails; false when the receiver was first. */
  reclaim(): Promise<boolean>;
  onStep(step: GiverStep): void;
  onGuildMoved(): void;
  onPauses(pausesMs: readonly number[]): void;
  log: Logger;
}

interface Forwarded {
  n: number;
  work: Work;
}

export class Giver {
  readonly move = randomUUID();
  readonly shard: number;
  readonly to: string;
  readonly #options: GiverOptions;
  #step: GiverStep = "offered";
  readonly #departed = new Set<string>();
  #departing = 0;
  /** In the order they were sent. */
  #forwarded: Forwarded[] = [];
  #sent = 0;
  #seen = 0;
  #settled = false;
  #heardAt = performance.now();
  #seenAt = performance.now();
  #left: SessionInfo | null | undefined;
  #took = false;
  #failure: string | undefined;
  #wake: () => void = () => {};

  constructor(options: GiverOptions) {
    this.#options = options;
    this.shard = options.shard;
    this.to = options.to;
  }

  get step(): GiverStep {
    return this.#step;
  }

  /** Gives the shard; resolves "gone", or why it is still here. Never rejects. */
  async run(): Promise<"gone" | { returned: string }> {
    const { given, log, shard, to } = this.#options;
    this.#options.onStep("offered");
    const refused = await this.#offer();
    if (refused !== undefined) {
      this.#setStep("returned");
      return { returned: refused };
    }
    const timer = setInterval(() => this.#checkStall(), limits.handoffStallMs / 10);
    try {
      this.#heardAt = this.#seenAt = performance.now();
      this.#setStep("moving");
      this.#options.guilds.route(shard, this);
      await this.#moveGuilds();
      this.#setStep("closing");
      this.#left = await given.leave();
      if (this.#left === null) throw new Error("Discord ended the session");
      this.#throwIfFailed();
      this.#setStep("departing");
      this.#sendGoodbye(this.#left);
      await this.#until(() => this.#took);
      this.#setStep("gone");
      this.#options.guilds.unroute(shard);
      return "gone";
    } catch (error) {
      const reason = messageOf(error);
      log.warn(
        { event: "handoff_returned", shard, to, step: this.#step, reason },
        "a shard was not handed over",
      );
      return (await this.#takeBack(reason)) ? { returned: reason } : "gone";
    } finally {
      clearInterval(timer);
    }
  }

  /** A dispatch of the shard while it moves: true when it is (or will be) the receiver's. */
  take(work: Work, guildId: string): boolean {
    if (this.#departed.has(guildId)) {
      this.#forward(guildId, work);
      return true;
    }
    if (this.#options.guilds.has(guildId)) return false; // Still here, or on its way: it waits there, in order.
    this.#sendCold(guildId, [work]);
    return true;
  }

  /** Gives up: everything is taken back. */
  cancel(reason: string): void {
    this.#failure ??= reason;
    this.#wake();
  }

  /** The receiver's reports. */
  committed(n: number, seen: number, pausesMs: readonly number[]): void {
    const now = performance.now();
    this.#heardAt = now;
    if (seen > this.#seen) this.#seenAt = now;
    this.#seen = Math.max(this.#seen, seen);
    let index = 0;
    while (index < this.#forwarded.length && this.#forwarded[index]!.n <= n) index += 1;
    for (const { work } of this.#forwarded.splice(0, index)) work.complete();
    if (pausesMs.length > 0) this.#options.onPauses(pausesMs);
  }

  took(): void {
    this.#took = true;
    this.#wake();
  }

  async #offer(): Promise<string | undefined> {
    const { shard, shardCount, from, to, bot, given, ask } = this.#options;
    const { session } = given;
    if (session === null) return "the shard has no session yet";
    const offer: Ask = {
      ask: "offer",
      move: this.move,
      from,
      shard,
      shardCount,
      session,
      bot: bot.name,
      stateVersion: bot.stateVersion,
    };
    try {
      let answer: Answer | undefined;
      const asking = ask(to, offer, limits.handoffOfferTimeoutMs).then((given) => {
        answer = given;
        this.#wake();
      });
      // Whoever is asked may have died of it: giving up does not wait for its answer.
      await Promise.race([asking, this.#until(() => answer !== undefined)]);
      const { ok, reason } = answer!;
      return ok ? undefined : (reason ?? "refused");
    } catch (error) {
      // It may take the offer all the same, later.
      this.#options.tell(to, { ask: "cancel", move: this.move, reason: messageOf(error) });
      return this.#failure ?? `no answer to the offer: ${messageOf(error)}`;
    }
  }

  /** Some guilds a turn, until none of the shard is here; the loop's other work goes on in between. */
  async #moveGuilds(): Promise<void> {
    const { guilds, shard } = this.#options;
    for (;;) {
      const waiting = guilds.idsOf(shard).filter((guildId) => !this.#departed.has(guildId));
      if (waiting.length === 0 && this.#departing === 0) return;
      for (const [index, guildId] of waiting.entries()) {
        this.#depart(guildId);
        if (index % limits.handoffGuildsPerTurn !== limits.handoffGuildsPerTurn - 1) continue;
        await turn();
        this.#throwIfFailed();
      }
      if (this.#departing > 0) await this.#until(() => this.#departing === 0);
      this.#throwIfFailed();
    }
  }

  #depart(guildId: string): void {
    const lockedAt = performance.timeOrigin + performance.now();
    this.#departing += 1;
    const isUnderway = this.#options.guilds.depart(guildId, (departure) => {
      this.#departing -= 1;
      // Taken back meanwhile: whoever took back runs these again.
      if (this.#step === "returned") for (const work of departure.waiting) this.#options.guilds.handle(work);
      else this.#send(guildId, departure, lockedAt);
      this.#wake();
    });
    if (!isUnderway) this.#departing -= 1;
  }

  #send(guildId: string, departure: DepartedGuild, lockedAt: number): void {
    const { document, dirty, waiting } = departure;
    if (document === undefined) {
      this.#sendCold(guildId, waiting);
    } else {
      this.#sendText(
        guildId,
        "state",
        `"document":${JSON.stringify(document)},"dirty":${dirty},"lockedAt":${lockedAt}`,
      );
      this.#departed.add(guildId);
      for (const work of waiting) this.#forward(guildId, work);
    }
    this.#options.onGuildMoved();
  }

  #sendCold(guildId: string, waiting: readonly Work[]): void {
    this.#sendText(guildId, "cold", "");
    this.#departed.add(guildId);
    for (const work of waiting) this.#forward(guildId, work);
  }

  #forward(guildId: string, work: Work): void {
    const { session, s, receivedAt, payload } = work;
    const body = `"session":${JSON.stringify(session)},"s":${s},"at":${receivedAt},"d":${JSON.stringify(payload)}`;
    this.#sendText(guildId, "dispatch", body);
    this.#forwarded.push({ n: this.#sent, work });
  }

  #sendGoodbye(session: SessionInfo): void {
    const claimRevision = this.#options.claimRevision();
    this.#sendText(
      wholeMove,
      "goodbye",
      `"session":${JSON.stringify(session)},"claimRevision":${claimRevision}`,
    );
  }

  /** One message, or its text in parts when the server takes no message that long. */
  #sendText(guildId: string, kind: HandoffKind, body: string): void {
    const text = this.#envelope(body);
    const maxBytes = this.#options.messageMaxBytes() - limits.handoffPartHeadroomBytes;
    // Three bytes a character at most; exact only when it may be too long.
    if (text.length * 3 <= maxBytes || Buffer.byteLength(text) <= maxBytes) {
      this.#put(guildId, kind, text);
      return;
    }
    this.#sent -= 1;
    // Text inside text: quotes take an escape, and a character up to six bytes.
    const size = Math.max(1, Math.floor(maxBytes / 6));
    const parts = Math.ceil(text.length / size);
    for (let index = 0; index < parts; index += 1) {
      const piece = JSON.stringify(text.slice(index * size, (index + 1) * size));
      this.#put(
        guildId,
        "part",
        this.#envelope(`"index":${index},"parts":${parts},"kind":"${kind}","text":${piece}`),
      );
    }
  }

  #envelope(body: string): string {
    this.#sent += 1;
    return `{"v":${handoffVersion},"move":"${this.move}","n":${this.#sent}${body === "" ? "" : ","}${body}}`;
  }

  #put(guildId: string, kind: HandoffKind, text: string): void {
    try {
      this.#options.send(this.to, guildId, kind, text);
    } catch (error) {
      // The hole in the numbers would tell the receiver; no need to wait for it.
      this.cancel(`cannot send: ${messageOf(error)}`);
    }
  }

  /** False when the receiver has the shard all the same. */
  async #takeBack(reason: string): Promise<boolean> {
    const { guilds, shard, to, given, ask, reclaim } = this.#options;
    if (this.#step === "departing" && !(await reclaim())) {
      this.#setStep("gone");
      guilds.unroute(shard);
      return false;
    }
    // Whatever the receiver still has underway is fenced or folded; that it stops soon saves both the trouble.
    await ask(to, { ask: "cancel", move: this.move, reason }, limits.askTimeoutMs).catch(() => {});
    const back = this.#forwarded;
    this.#forwarded = [];
    this.#setStep("returned");
    guilds.unroute(shard);
    for (const { work } of back) guilds.handle(work);
    if (this.#left !== undefined) given.comeBack(this.#left);
    return true;
  }

  /** Tells the receiver once nothing of our own on this shard is open. */
  #settle(): void {
    if (this.#settled || (this.#step !== "departing" && this.#step !== "gone")) return;
    if (this.#options.given.open > this.#forwarded.length) return;
    this.#settled = true;
    this.#options.tell(this.to, { ask: "settled", move: this.move });
  }

  /** After the move: what of our own is still on its way to completion, or was forwarded and not reported yet. */
  async finish(deadlineAt: number): Promise<void> {
    while (this.#options.given.open > this.#forwarded.length && performance.now() < deadlineAt) await turn();
    this.#settle();
  }

  #checkStall(): void {
    this.#settle();
    const now = performance.now();
    if (now - this.#heardAt > limits.handoffStallMs) this.cancel("the receiver is silent");
    else if (this.#seen < this.#sent && now - this.#seenAt > limits.handoffStallMs) {
      this.cancel(`messages were lost: ${this.#sent} sent, ${this.#seen} seen`);
    }
  }

  async #until(holds: () => boolean): Promise<void> {
    while (!holds()) {
      this.#throwIfFailed();
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  #throwIfFailed(): void {
    if (this.#failure !== undefined) throw new Error(this.#failure);
  }

  #setStep(step: GiverStep): void {
    this.#step = nextStep("giver", this.#step, step);
    this.#options.onStep(step);
  }
}

function turn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, limits.handoffTurnMs));
}
