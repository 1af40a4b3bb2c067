/**
 * Owns what leaves for Discord: effects of events that are in the log, in order, and their replay after a crash.
 *
 * Invariants:
 * - Nothing is sent here before its event is in the log (the guild calls only then).
 * - A late answer is dropped visibly: counted and logged, never sent blindly.
 *
 * If the process dies between append and send, the next owner finds the effects in the event: the dispatch is replayed
 * (the checkpoint did not pass it), recognised by the guild's cursor, and `resend` sends them again. Discord refuses a
 * second answer (40060) and keeps one message a nonce.
 */
import type { Logger } from "../core/bot.js";
import { messageOf } from "../core/errors.js";
import type { Effect } from "../core/event.js";
import { type EffectOutcome, sendEffect } from "../discord/effects.js";
import type { DiscordRest } from "../discord/rest.js";
import type { GuildLog } from "../nats/guild-log.js";
import type { Counters } from "./services.js";
import type { Work } from "./work.js";

/** Events of one guild looked at backwards for effects that may not have left. */
const resendEventsMax = 256;

export class Effects {
  readonly #rest: DiscordRest;
  readonly #guildLog: GuildLog;
  readonly #counters: Counters;
  readonly #log: Logger;

  constructor(rest: DiscordRest, guildLog: GuildLog, counters: Counters, log: Logger) {
    this.#rest = rest;
    this.#guildLog = guildLog;
    this.#counters = counters;
    this.#log = log;
  }

  async send(effects: readonly Effect[]): Promise<void> {
    if (effects.length === 1) await this.#sendOne(effects[0]!);
    else await Promise.all(inOrderOfTarget(effects).map((lane) => this.#sendLane(lane)));
  }

  async resend(subject: string, lastSeq: number, since: Work): Promise<void> {
    try {
      const effects: Effect[][] = [];
      let seq = lastSeq;
      for (let looked = 0; looked < resendEventsMax && seq > 0; looked += 1) {
        const stored =
          looked === 0 ? await this.#guildLog.readLast(subject) : await this.#guildLog.readAt(seq);
        if (stored === undefined || stored.message.kind !== "event") break;
        const { cause } = stored.message;
        if (cause.session !== since.session || cause.s < since.s) break;
        if (stored.message.effects !== undefined) effects.unshift(stored.message.effects);
        seq = stored.previousSeq;
      }
      if (effects.length > 0) await this.send(effects.flat());
    } catch (error) {
      this.#log.warn(
        { event: "resend_failed", subject, error: messageOf(error) },
        "effects of a replay not sent again",
      );
    }
  }

  async #sendLane(lane: readonly Effect[]): Promise<void> {
    for (const effect of lane) await this.#sendOne(effect);
  }

  async #sendOne(effect: Effect): Promise<void> {
    let outcome: EffectOutcome;
    try {
      outcome = await sendEffect(this.#rest, effect);
    } catch (error) {
      outcome = "failed";
      this.#log.error(
        { event: "effect_failed", kind: effect.kind, error: messageOf(error) },
        "Discord refused an effect",
      );
    }
    if (outcome === "sent" || outcome === "already") {
      this.#counters.effectsSent += 1;
      return;
    }
    this.#counters.effectsDropped += 1;
    this.#log.warn(
      { event: "effect_dropped", kind: effect.kind, outcome },
      "an effect did not reach Discord",
    );
  }
}

/** One lane a target: an interaction's follow-up after its answer, messages of a channel in order, lanes in parallel. */
function inOrderOfTarget(effects: readonly Effect[]): Effect[][] {
  const lanes = new Map<string, Effect[]>();
  for (const effect of effects) {
    const target = effect.kind === "message" ? effect.channelId : effect.interactionId;
    const lane = lanes.get(target);
    if (lane === undefined) lanes.set(target, [effect]);
    else lane.push(effect);
  }
  return [...lanes.values()];
}
