/**
 * Owns the check of a whole run: what the simulator has sent against what the counting bot's states say. Pure.
 *
 * Rules: GUILD_CREATE and GUILD_DELETE are not compared (they also come with new sessions), nor are direct messages
 * (they have no guild). Fewer counted than sent is lost, more is handled twice; equal numbers with another sum of ids
 * are one of each. States are kept between runs, so what they counted before (the baseline) is taken off.
 */

/** The part of the counting bot's state that is compared. */
export interface Counted {
  counts: Readonly<Record<string, number>>;
  idSum: number;
}

/** What the simulator's ledger expects of a guild. */
export interface Expected extends Counted {
  /** Of these, how many were on their way when their session was lost: no one can say whether they arrived. */
  unconfirmed: number;
}

export interface Verdict {
  /** Dispatches compared. */
  dispatches: number;
  handled: number;
  lost: number;
  duplicated: number;
  unconfirmed: number;
  /** The first guilds that differ, in words. */
  differences: string[];
}

export const notCompared: ReadonlySet<string> = new Set(["GUILD_CREATE", "GUILD_DELETE"]);
const directMessages = "dm";
const idSumModulus = 1_000_000_000;
const differencesMax = 5;

export const nothingCounted: Counted = { counts: {}, idSum: 0 };

export function judge(
  ledger: Readonly<Record<string, Expected>>,
  baseline: ReadonlyMap<string, Counted>,
  states: ReadonlyMap<string, Counted>,
): Verdict {
  const verdict: Verdict = {
    dispatches: 0,
    handled: 0,
    lost: 0,
    duplicated: 0,
    unconfirmed: 0,
    differences: [],
  };
  const guilds = new Set([...Object.keys(ledger), ...states.keys()]);
  guilds.delete(directMessages);
  for (const guildId of guilds) {
    const expected = ledger[guildId] ?? { ...nothingCounted, unconfirmed: 0 };
    const before = baseline.get(guildId) ?? nothingCounted;
    const guild = judgeGuild(expected, before, states.get(guildId) ?? nothingCounted);
    verdict.dispatches += guild.dispatches;
    verdict.handled += guild.handled;
    verdict.lost += guild.lost;
    verdict.duplicated += guild.duplicated;
    verdict.unconfirmed += expected.unconfirmed;
    if (guild.difference !== undefined && verdict.differences.length < differencesMax) {
      verdict.differences.push(`guild ${guildId}: ${guild.difference}`);
    }
  }
  return verdict;
}

function judgeGuild(expected: Expected, before: Counted, after: Counted) {
  let dispatches = 0;
  let handled = 0;
  let lost = 0;
  let duplicated = 0;
  const parts: string[] = [];
  for (const t of new Set([...Object.keys(expected.counts), ...Object.keys(after.counts)])) {
    if (notCompared.has(t)) continue;
    const sent = expected.counts[t] ?? 0;
    const got = (after.counts[t] ?? 0) - (before.counts[t] ?? 0);
    dispatches += sent;
    handled += got;
    if (got < sent) lost += sent - got;
    if (got > sent) duplicated += got - sent;
    if (got !== sent) parts.push(`${t} ${sent} sent, ${got} counted`);
  }
  const idSum = (after.idSum - before.idSum + idSumModulus) % idSumModulus;
  if (parts.length === 0 && idSum !== expected.idSum % idSumModulus) {
    lost = 1;
    duplicated = 1;
    parts.push(`ids add up to ${idSum}, not ${expected.idSum}`);
  }
  lost = Math.max(0, lost - expected.unconfirmed);
  return {
    dispatches,
    handled,
    lost,
    duplicated,
    difference: parts.length > 0 ? parts.join(", ") : undefined,
  };
}
