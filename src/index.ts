/** The package's public API: what a bot's file imports. Everything else may change without notice. */
export type {
  AnyBot,
  Bot,
  Command,
  CommandContext,
  DirectContext,
  DispatchData,
  DispatchName,
  GuildContext,
  Logger,
  Mirror,
  MirroredState,
  ReplyBody,
  RestClient,
} from "./core/bot.js";
export { defineBot } from "./core/bot.js";
export { type ErrorCode, GuildstreamError } from "./core/errors.js";
