/**
 * Owns the way of an effect to Discord, once its event is in the log (invariant I5 is the caller's).
 *
 * After a crash an effect may be sent again, so each kind has its own guard against twice:
 * - answer: Discord refuses a second one (40060), and one past its 3 s is not sent at all.
 * - message: `enforce_nonce`; Discord returns the first one (Create Message).
 * - followUp: none at Discord; sent again only within the 15 minutes of its token.
 *
 * Used by the worker. Interaction callbacks have no rate limit bucket and do not count for the global limit
 * (Receiving and Responding to Interactions, "Endpoints"); @discordjs/rest gives them one queueless handler.
 */
import { Routes } from "discord-api-types/v10";
import { GuildstreamError, messageOf, never } from "../core/errors.js";
import type { Effect } from "../core/event.js";
import { limits } from "../core/limits.js";
import { type DiscordRest, RestError } from "./rest.js";

/**
 * - sent: Discord has it, by this request or an earlier one with the same nonce.
 * - already: the interaction had been answered.
 * - late: past its time; not sent, or refused as unknown. Never to be tried again.
 * - failed: Discord refuses it, or could not be reached; logged here.
 */
export type EffectOutcome = "sent" | "already" | "late" | "failed";

/** JSON error codes (Opcodes and Status Codes, "JSON"). */
const unknownInteraction = 10_062;
const unknownWebhook = 10_015;
const alreadyAcknowledged = 40_060;

/** Sends one effect; never rejects. */
export async function sendEffect(rest: DiscordRest, effect: Effect): Promise<EffectOutcome> {
  for (let attempt = 1; ; attempt += 1) {
    if (isLate(effect)) return "late";
    try {
      await send(rest, effect);
      return "sent";
    } catch (error) {
      if (error instanceof RestError) {
        if (error.code === alreadyAcknowledged) return "already";
        if (error.code === unknownInteraction || error.code === unknownWebhook) return "late";
      }
      if (attempt < limits.effectAttemptsMax && isWorthAnother(error)) continue;
      const fields = error instanceof RestError ? { status: error.status, code: error.code } : {};
      rest.log.error(
        { kind: effect.kind, ...fields, reason: messageOf(error) },
        "an effect could not be sent",
      );
      return "failed";
    }
  }
}

function send(rest: DiscordRest, effect: Effect): Promise<unknown> {
  switch (effect.kind) {
    case "answer":
      return rest.request("POST", Routes.interactionCallback(effect.interactionId, effect.token), {
        body: effect.body,
        auth: false,
      });
    case "followUp":
      return rest.request("POST", Routes.webhook(effect.applicationId, effect.token), {
        body: effect.body,
        auth: false,
      });
    case "message":
      return rest.request("POST", Routes.channelMessages(effect.channelId), {
        body: { ...(effect.body as object), nonce: effect.nonce, enforce_nonce: true },
      });
    default:
      return never(effect);
  }
}

function isLate(effect: Effect): boolean {
  switch (effect.kind) {
    case "answer":
      return Date.now() - effect.at > limits.interactionAnswerMs;
    case "followUp":
      return Date.now() - effect.at > limits.interactionTokenMs;
    case "message":
      return false;
  }
}

/** A second answer or nonce is refused or recognised, so what may have arrived may be sent again. */
function isWorthAnother(error: unknown): boolean {
  if (error instanceof RestError) return error.status >= 500;
  return error instanceof GuildstreamError && error.code === "DISCORD_UNREACHABLE";
}
