/**
 * The two clients that append: plain js.publish on a number of lanes, and the guild log's fenced appends, one in
 * flight a guild. Both publish the same kind of event, and both are charged this process' CPU time.
 */
import type { JetStreamClient } from "nats";
import { encodeEvent } from "../../src/core/event.js";
import { guildSubject } from "../../src/core/subjects.js";
import type { GuildLog } from "../../src/nats/guild-log.js";
import { guildIdAt } from "./stage.js";

export interface Cost {
  count: number;
  ms: number;
  cpuMicros: number;
}

/** Far from the fenced guilds' ids: a plain publish must not get in their way. */
const plainGuildsFrom = 1_000_000;
const session = "0123456789abcdef0123456789abcdef";

/** A message counted, as the counting bot makes it: what the log mostly holds. */
function eventText(rev: number, by: string): string {
  const counted = `{"op":"replace","path":"/counts/MESSAGE_CREATE","value":${rev}}`;
  const sum = `{"op":"replace","path":"/idSum","value":${(rev * 7919) % 1_000_000}}`;
  const whole = `{"op":"add","path":"","value":{"counts":{"MESSAGE_CREATE":1},"idSum":7919}}`;
  return encodeEvent({
    rev,
    epoch: 1,
    by,
    at: Date.now(),
    opsJson: rev === 1 ? whole : `${counted},${sum}`,
    cause: { shard: 0, session, s: rev, t: "MESSAGE_CREATE", id: "1000000000000000000" },
    effects: [],
  });
}

/** js.publish as a client would write it: each lane awaits its ack, then publishes the next. */
export async function publishPlainly(js: JetStreamClient, lanes: number, ms: number): Promise<Cost> {
  return charge(async () => {
    const until = performance.now() + ms;
    let count = 0;
    const lane = async (index: number): Promise<void> => {
      const subject = guildSubject(guildIdAt(plainGuildsFrom + index));
      for (let rev = 2; performance.now() < until; rev += 1) {
        await js.publish(subject, eventText(rev, "bench.plain"));
        count += 1;
      }
    };
    await Promise.all(Array.from({ length: lanes }, (_, index) => lane(index)));
    return count;
  });
}

interface FencedGuild {
  subject: string;
  seq: number;
  rev: number;
}

/** Guilds that append as fast as the log answers; they go on where they stopped. */
export class FencedGuilds {
  readonly #guilds: FencedGuild[];

  constructor(
    readonly log: GuildLog,
    guilds: number,
  ) {
    this.#guilds = Array.from({ length: guilds }, (_, index) => ({
      subject: guildSubject(guildIdAt(index)),
      seq: 0,
      rev: 0,
    }));
  }

  /** Resolves when the last append in flight is acknowledged. */
  appendFor(ms: number): Promise<Cost> {
    return charge(
      () =>
        new Promise<number>((resolve, reject) => {
          const until = performance.now() + ms;
          let count = 0;
          let running = this.#guilds.length;
          const next = (guild: FencedGuild): void => {
            if (performance.now() >= until) {
              running -= 1;
              if (running === 0) resolve(count);
              return;
            }
            const rev = guild.rev + 1;
            const by = this.log.incarnation;
            const messageId = this.log.newMessageId();
            const claim = { messageId, rev, epoch: 1, by, expectedSeq: guild.seq };
            const append = {
              subject: guild.subject,
              kind: "event" as const,
              payload: eventText(rev, by),
              claim,
            };
            this.log.append(append, (outcome) => {
              if (outcome.verdict !== "stored") {
                reject(new Error(`an append of the bench was ${outcome.verdict}`));
                return;
              }
              guild.seq = outcome.seq;
              guild.rev = rev;
              count += 1;
              next(guild);
            });
          };
          for (const guild of this.#guilds) next(guild);
        }),
    );
  }
}

async function charge(body: () => Promise<number>): Promise<Cost> {
  const cpuBefore = process.cpuUsage();
  const startedAt = performance.now();
  const count = await body();
  const ms = performance.now() - startedAt;
  const { user, system } = process.cpuUsage(cpuBefore);
  return { count, ms, cpuMicros: user + system };
}
