/**
 * Stories of the guild log on three replicas: its leader killed, its leader frozen and thawed (which then holds itself
 * for the leader still), its followers frozen. Every append ends stored, once, in order.
 */
import test, { type ExecutionContext } from "ava";
import { encodeEvent } from "../../src/core/event.js";
import { guildSubject, guildsStream } from "../../src/core/subjects.js";
import { connectNats } from "../../src/nats/connect.js";
import { ensureStreams } from "../../src/nats/definitions.js";
import { type AppendOutcome, GuildLog } from "../../src/nats/guild-log.js";
import { type NatsCluster, withNatsCluster } from "../helpers/nats-cluster.js";
import { until } from "../helpers/until.js";

const guilds = Array.from({ length: 50 }, (_, index) => String((1_000_000_000_000n + BigInt(index)) << 22n));

/** Writers of many guilds, one append in flight each, until they are told to end. */
class Writers {
  stored = 0;
  /** The longest time without an acknowledgement. */
  gapMs = 0;
  readonly others: AppendOutcome[] = [];
  readonly #log: GuildLog;
  readonly #written = new Map<string, { rev: number; seq: number }>();
  readonly #running: Promise<void>;
  #ending = false;
  #lastAt = performance.now();

  constructor(log: GuildLog) {
    this.#log = log;
    this.#running = Promise.all(guilds.map((guildId) => this.#write(guildId))).then(() => {});
  }

  /** Ends, and reads the log: each guild's revisions as they were acknowledged, without a gap. */
  async end(t: ExecutionContext): Promise<void> {
    this.#ending = true;
    await this.#running;
    t.deepEqual(this.others, [], "no outcome but stored");
    for (const [guildId, { rev, seq }] of this.#written) {
      const revisions: number[] = [];
      for await (const each of this.#log.readAll(guildSubject(guildId), seq))
        revisions.push(each.message.rev);
      t.deepEqual(
        revisions,
        Array.from({ length: rev }, (_, index) => index + 1),
      );
    }
  }

  async #write(guildId: string): Promise<void> {
    const log = this.#log;
    const by = log.incarnation;
    for (let rev = 1, expectedSeq = 0; !this.#ending; rev += 1) {
      const value = rev === 1 ? { n: 1 } : rev;
      const payload = encodeEvent({
        rev,
        epoch: 1,
        by,
        at: 1,
        opsJson: JSON.stringify({ op: "add", path: rev === 1 ? "" : "/n", value }),
        cause: { shard: 0, session: "s", s: rev, t: "MESSAGE_CREATE" },
        effects: [],
      });
      const claim = { messageId: log.newMessageId(), rev, epoch: 1, by, expectedSeq };
      const subject = guildSubject(guildId);
      const outcome = await new Promise<AppendOutcome>((resolve) =>
        log.append({ subject, kind: "event", payload, claim }, resolve),
      );
      if (outcome.verdict !== "stored") {
        this.others.push(outcome);
        return;
      }
      expectedSeq = outcome.seq;
      this.#written.set(guildId, { rev, seq: outcome.seq });
      this.stored += 1;
      const now = performance.now();
      this.gapMs = Math.max(this.gapMs, now - this.#lastAt);
      this.#lastAt = now;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

interface Stage {
  cluster: NatsCluster;
  writers: Writers;
  troubles: string[];
}

/** Writers whose client is connected to the server that leads the log, or to one that follows. */
async function stage(t: ExecutionContext, on: "leader" | "follower" = "leader"): Promise<Stage> {
  const cluster = await withNatsCluster(t);
  const setup = await connectNats({ url: cluster.url, name: "setup" });
  t.teardown(() => setup.close());
  await ensureStreams(setup, { replicas: 3 });
  const leader = (await cluster.leaderOf(guildsStream))!;
  const server = on === "leader" ? leader : cluster.servers.find((each) => each !== leader)!;
  const nc = await connectNats({ url: server.url, name: "writers" });
  t.teardown(() => nc.close());
  const troubles: string[] = [];
  const log = new GuildLog(nc, "w.1", (fields, message) => {
    troubles.push(`${message} ${JSON.stringify(fields)}`);
    t.log(troubles.at(-1));
  });
  t.teardown(() => log.close());
  await log.streamEnd();
  const writers = new Writers(log);
  await until("500 appends", () => writers.stored >= 500);
  return { cluster, writers, troubles };
}

async function more(writers: Writers, appends: number): Promise<void> {
  const before = writers.stored;
  await until("appends again", () => writers.stored >= before + appends);
}

test("the leader is killed, and the next one", async (t) => {
  const { cluster, writers } = await stage(t);
  for (let kills = 0; kills < 2; kills += 1) {
    const leader = (await cluster.leaderOf(guildsStream))!;
    writers.gapMs = 0;
    await leader.kill();
    await more(writers, 500);
    t.log(`${Math.round(writers.gapMs)} ms from kill to the next acknowledgement`);
    await leader.restart();
    await cluster.current();
  }
  await writers.end(t);
});

test("the leader freezes: the client leaves it; thawed, its old word is not believed", async (t) => {
  const { cluster, writers } = await stage(t);
  const leader = (await cluster.leaderOf(guildsStream))!;
  process.kill(leader.pid, "SIGSTOP");
  await more(writers, 500);
  process.kill(leader.pid, "SIGCONT");
  await more(writers, 500);
  await cluster.current();
  await writers.end(t);
});

test("both followers freeze: what waits for them is neither lost nor stored twice", async (t) => {
  const { cluster, writers, troubles } = await stage(t);
  const leader = (await cluster.leaderOf(guildsStream))!;
  const followers = cluster.servers.filter((server) => server !== leader);
  for (const server of followers) process.kill(server.pid, "SIGSTOP");
  // What they had acknowledged before may still be on its way here.
  let before = -1;
  let looksWithoutNews = 0;
  await until("what was on its way has come", () => {
    looksWithoutNews = writers.stored === before ? looksWithoutNews + 1 : 0;
    before = writers.stored;
    return looksWithoutNews >= 25;
  });
  await until("sent again, with the first still under way", () =>
    troubles.some((each) => /in process/.test(each)),
  );
  t.is(writers.stored, before, "nothing is acknowledged by one of three");
  for (const server of followers) process.kill(server.pid, "SIGCONT");
  await more(writers, 500);
  await writers.end(t);
});

test("the leader of before thaws alone: it lacks what was acknowledged since, and nothing is taken for lost", async (t) => {
  const { cluster, writers, troubles } = await stage(t, "follower");
  const before = (await cluster.leaderOf(guildsStream))!;
  const others = cluster.servers.filter((server) => server !== before);
  process.kill(before.pid, "SIGSTOP");
  await more(writers, 500);
  for (const server of others) await server.kill();
  process.kill(before.pid, "SIGCONT");
  const told = troubles.length;
  await until("asked", () => troubles.length > told);
  for (const server of others) await server.restart();
  await more(writers, 500);
  await writers.end(t);
});
