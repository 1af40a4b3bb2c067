/**
 * The community bot: levels for talking, tags (texts to keep and call up), and settings, all by slash commands.
 *
 * Read it as the example of a bot: everything it knows of a server is its state, and handlers just change it. What
 * they changed is in the log before an answer leaves, so there is no database to write to and nothing to save.
 * Time comes from Discord's ids and not from the clock: handling a message again gives the same state.
 */
import {
  type APIApplicationCommandSubcommandOption,
  ApplicationCommandOptionType,
  ChannelType,
  GatewayIntentBits,
  MessageFlags,
  PermissionFlagsBits,
} from "discord-api-types/v10";
import { type CommandContext, defineBot } from "../core/bot.js";
import { snowflakeTimeMs } from "../core/ids.js";

export interface CommunityState {
  settings: {
    levels: boolean;
    /** Where level-ups are announced; null: in the channel of the message. */
    announceChannelId: string | null;
  };
  /** By user id; `lastAt` is when they last earned something, in Unix ms. */
  members: Record<string, { xp: number; lastAt: number }>;
  /** By name. */
  tags: Record<string, { text: string; authorId: string; uses: number }>;
}

/** Version 1 had no settings, bare numbers for members and bare texts for tags. */
export interface CommunityStateV1 {
  xp: Record<string, number>;
  tags: Record<string, string>;
}

const xpPerMessage = 15;
/** Within this time after a message that earned something, others earn nothing. */
const cooldownMs = 60_000;
const leaderboardSize = 10;
const tagsMax = 200;
const tagNamePattern = /^[\p{L}\p{N}_-]{1,32}$/u;
const tagTextMax = 1_500;
/** Keys that guild state refuses, since they mean something else to JavaScript. */
const reservedNames: ReadonlySet<string> = new Set(["__proto__", "constructor", "prototype"]);

/** Level n takes 50 n (n + 1) points: 100 for the first, 100 more for each one after it. */
export function levelOf(xp: number): number {
  return Math.floor((Math.sqrt(1 + xp / 12.5) - 1) / 2);
}

const noMentions = { allowed_mentions: { parse: [] } };
const onlyForYou = { flags: MessageFlags.Ephemeral, ...noMentions };

type Context = CommandContext<CommunityState>;

export default defineBot<CommunityState>({
  name: "community",
  intents: GatewayIntentBits.Guilds | GatewayIntentBits.GuildMembers | GatewayIntentBits.GuildMessages,

  state: {
    version: 2,
    initial: () => ({ settings: { levels: true, announceChannelId: null }, members: {}, tags: {} }),
    migrate(old, fromVersion) {
      if (fromVersion !== 1) throw new Error(`no way from state version ${fromVersion}`);
      const { xp, tags } = old as CommunityStateV1;
      return {
        settings: { levels: true, announceChannelId: null },
        members: mapValues(xp, (points) => ({ xp: points, lastAt: 0 })),
        tags: mapValues(tags, (text) => ({ text, authorId: "", uses: 0 })),
      };
    },
  },

  on: {
    MESSAGE_CREATE({ state, data: message, send }) {
      if (!state.settings.levels || message.author.bot === true) return;
      const at = snowflakeTimeMs(message.id);
      const member = state.members[message.author.id] ?? { xp: 0, lastAt: 0 };
      if (at - member.lastAt < cooldownMs) return;

      const xp = member.xp + xpPerMessage;
      state.members[message.author.id] = { xp, lastAt: at };
      if (levelOf(xp) === levelOf(member.xp)) return;
      send(state.settings.announceChannelId ?? message.channel_id, {
        content: `<@${message.author.id}> is now level ${levelOf(xp)}.`,
        ...noMentions,
      });
    },

    GUILD_MEMBER_REMOVE({ state, data }) {
      delete state.members[data.user.id];
    },

    CHANNEL_DELETE({ state, data: channel }) {
      if (state.settings.announceChannelId === channel.id) state.settings.announceChannelId = null;
    },
  },

  commands: {
    rank: {
      definition: {
        description: "Your level, or another member's",
        options: [{ type: ApplicationCommandOptionType.User, name: "member", description: "Whose" }],
      },
      run({ state, options, userId, reply }) {
        const id = String(options.member ?? userId);
        const member = state.members[id];
        if (member === undefined) {
          reply({ content: `<@${id}> has not earned anything yet.`, ...onlyForYou });
          return;
        }
        const place = ranking(state).findIndex(([other]) => other === id) + 1;
        const content = `<@${id}> is level ${levelOf(member.xp)} with ${member.xp} points, number ${place} here.`;
        reply({ content, ...noMentions });
      },
    },

    leaderboard: {
      definition: { description: `The ${leaderboardSize} most talkative members` },
      run({ state, reply }) {
        const lines = ranking(state)
          .slice(0, leaderboardSize)
          .map(([id, { xp }], index) => `${index + 1}. <@${id}>: level ${levelOf(xp)}, ${xp} points`);
        reply({
          content: lines.length > 0 ? lines.join("\n") : "Nobody has said anything yet.",
          ...noMentions,
        });
      },
    },

    tag: {
      definition: {
        description: "Texts to keep and call up",
        options: [
          subcommand("get", "Shows a tag", [text("name", "Which")]),
          subcommand("set", "Keeps a text", [text("name", "Under which name"), text("text", "What it says")]),
          subcommand("delete", "Deletes a tag of yours", [text("name", "Which")]),
          subcommand("list", "Names all tags"),
        ],
      },
      run(context) {
        switch (context.subcommand) {
          case "get":
            return getTag(context);
          case "set":
            return setTag(context);
          case "delete":
            return deleteTag(context);
          default:
            return listTags(context);
        }
      },
    },

    settings: {
      definition: {
        description: "What the bot does here",
        default_member_permissions: String(PermissionFlagsBits.ManageGuild),
        options: [
          subcommand("levels", "Whether members earn levels", [
            {
              ...text("state", "on or off"),
              choices: [
                { name: "on", value: "on" },
                { name: "off", value: "off" },
              ],
            },
          ]),
          subcommand("announce", "Where level-ups are announced", [
            {
              type: ApplicationCommandOptionType.Channel as const,
              name: "channel",
              description: "Leave it out: where the message was",
              channel_types: [ChannelType.GuildText],
            },
          ]),
        ],
      },
      run({ state, subcommand, options, reply }) {
        if (subcommand === "levels") {
          state.settings.levels = options.state === "on";
          reply({ content: `Levels are ${state.settings.levels ? "on" : "off"}.`, ...onlyForYou });
        } else {
          const channelId = options.channel === undefined ? null : String(options.channel);
          state.settings.announceChannelId = channelId;
          const where = channelId === null ? "where they happen" : `in <#${channelId}>`;
          reply({ content: `Level-ups are announced ${where}.`, ...onlyForYou });
        }
      },
    },
  },
});

function getTag({ state, options, reply }: Context): void {
  const name = String(options.name);
  const tag = ownTag(state, name);
  if (tag === undefined) {
    reply({ content: `There is no tag "${name}".`, ...onlyForYou });
    return;
  }
  tag.uses += 1;
  reply({ content: tag.text, ...noMentions });
}

function setTag({ state, options, userId, reply }: Context): void {
  const [name, content] = [String(options.name), String(options.text)];
  const refusal = tagRefusal(state, name, content, userId);
  if (refusal !== undefined) {
    reply({ content: refusal, ...onlyForYou });
    return;
  }
  const uses = ownTag(state, name)?.uses ?? 0;
  state.tags[name] = { text: content, authorId: userId, uses };
  reply({ content: `"${name}" is kept.`, ...onlyForYou });
}

/** Why the tag cannot be kept; undefined when it can. */
function tagRefusal(
  state: CommunityState,
  name: string,
  content: string,
  userId: string,
): string | undefined {
  if (!tagNamePattern.test(name) || reservedNames.has(name)) {
    return "A tag's name is 1 to 32 letters, digits, - or _.";
  }
  if (content.length > tagTextMax) return `A tag says at most ${tagTextMax} characters.`;
  const tag = ownTag(state, name);
  if (tag === undefined) {
    return Object.keys(state.tags).length >= tagsMax ? `There are ${tagsMax} tags already.` : undefined;
  }
  const isFree = tag.authorId === userId || tag.authorId === "";
  return isFree ? undefined : `"${name}" is another member's.`;
}

function deleteTag({ state, options, userId, interaction, reply }: Context): void {
  const name = String(options.name);
  const tag = ownTag(state, name);
  const mayManage =
    (BigInt(interaction.member?.permissions ?? 0) & PermissionFlagsBits.ManageMessages) !== 0n;
  if (tag === undefined) {
    reply({ content: `There is no tag "${name}".`, ...onlyForYou });
  } else if (tag.authorId !== userId && !mayManage) {
    reply({ content: `"${name}" is another member's.`, ...onlyForYou });
  } else {
    delete state.tags[name];
    reply({ content: `"${name}" is gone.`, ...onlyForYou });
  }
}

function listTags({ state, reply }: Context): void {
  const names = Object.keys(state.tags).sort();
  const content = names.length === 0 ? "There are no tags yet." : names.join(", ");
  reply({ content: content.length <= 2_000 ? content : `${content.slice(0, 1_997)}...`, ...onlyForYou });
}

/** A member names tags as they like, "constructor" too; only our own keys are tags. */
function ownTag(state: CommunityState, name: string): CommunityState["tags"][string] | undefined {
  return Object.hasOwn(state.tags, name) ? state.tags[name] : undefined;
}

/** All members, most points first; equals in the order of their ids, so that places do not jump. */
function ranking(state: CommunityState): [string, { xp: number }][] {
  return Object.entries(state.members).sort(([a, { xp: x }], [b, { xp: y }]) => y - x || (a < b ? -1 : 1));
}

function mapValues<A, B>(record: Record<string, A>, map: (value: A) => B): Record<string, B> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, map(value)]));
}

function text(name: string, description: string) {
  return { type: ApplicationCommandOptionType.String as const, name, description, required: true };
}

type SubcommandOption = APIApplicationCommandSubcommandOption;

function subcommand(
  name: string,
  description: string,
  options: NonNullable<SubcommandOption["options"]> = [],
): SubcommandOption {
  return { type: ApplicationCommandOptionType.Subcommand, name, description, options };
}
