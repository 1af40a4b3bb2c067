/**
 * The counting bot: counts every dispatch of a guild by name. The end-to-end check compares its states with what the
 * simulator says it has sent: less is lost, more is handled twice.
 *
 * GUILD_CREATE and GUILD_DELETE are not counted: they also come without anything having happened in the guild, with
 * every new session and every outage.
 */
import { GatewayIntentBits } from "discord-api-types/v10";
import { defineBot } from "../core/bot.js";

export interface CountingState {
  /** How often, by Discord's event name. */
  counts: Record<string, number>;
  /** Over the last six digits of message and interaction ids, modulo 1,000,000,000: which ones, and not just how many. */
  idSum: number;
}

const notCounted: ReadonlySet<string> = new Set(["GUILD_CREATE", "GUILD_DELETE"]);
const identified: ReadonlySet<string> = new Set(["MESSAGE_CREATE", "INTERACTION_CREATE"]);

export default defineBot<CountingState>({
  name: "counting",
  intents:
    GatewayIntentBits.Guilds |
    GatewayIntentBits.GuildMembers |
    GatewayIntentBits.GuildModeration |
    GatewayIntentBits.GuildExpressions |
    GatewayIntentBits.GuildIntegrations |
    GatewayIntentBits.GuildWebhooks |
    GatewayIntentBits.GuildInvites |
    GatewayIntentBits.GuildVoiceStates |
    GatewayIntentBits.GuildMessages |
    GatewayIntentBits.GuildMessageReactions |
    GatewayIntentBits.GuildMessageTyping |
    GatewayIntentBits.GuildScheduledEvents |
    GatewayIntentBits.AutoModerationConfiguration |
    GatewayIntentBits.AutoModerationExecution |
    GatewayIntentBits.GuildMessagePolls |
    GatewayIntentBits.MessageContent,
  state: {
    version: 1,
    initial: () => ({ counts: {}, idSum: 0 }),
  },

  onAny({ state, t, data }) {
    if (notCounted.has(t)) return;
    state.counts[t] = (state.counts[t] ?? 0) + 1;
    if (identified.has(t)) {
      const { id } = data as { id: string };
      state.idSum = (state.idSum + Number(id.slice(-6))) % 1_000_000_000;
    }
  },

  commands: {
    count: {
      definition: { description: "How many events of this server the bot has counted" },
      run({ state, reply }) {
        const total = Object.values(state.counts).reduce((sum, count) => sum + count, 0);
        reply(`${total} events`);
      },
    },
  },
});
