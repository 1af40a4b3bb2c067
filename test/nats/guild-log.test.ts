/** Stories of the guild log on a real nats-server: the fence, unknown outcomes, size, a server killed mid-append. */
import test, { type ExecutionContext } from "ava";
import { encodeEvent } from "../../src/core/event.js";
import { limits } from "../../src/core/limits.js";
import { guildSubject } from "../../src/core/subjects.js";
import { connectNats, type NatsConnection } from "../../src/nats/connect.js";
import { ensureStreams } from "../../src/nats/definitions.js";
import { type AppendOutcome, GuildLog } from "../../src/nats/guild-log.js";
import { natsVersions, withServer } from "../helpers/nats.js";

const guildId = "175928847299117063";
const subject = guildSubject(guildId);

interface Setup {
  nc: NatsConnection;
  server: Awaited<ReturnType<typeof withServer>>;
  writer(name: string): GuildLog;
}

async function setup(t: ExecutionContext, version: string): Promise<Setup> {
  const server = await withServer(t, { version });
  const nc = await connectNats({ url: server.url, name: "test" });
  await ensureStreams(nc);
  const writers: GuildLog[] = [];
  t.teardown(async () => {
    for (const writer of writers) writer.close();
    await nc.close();
  });
  const writer = (name: string): GuildLog => {
    const log = new GuildLog(nc, name);
    writers.push(log);
    return log;
  };
  return { nc, server, writer };
}

function append(
  log: GuildLog,
  place: { rev: number; epoch: number; expectedSeq: number },
  value: unknown = place.rev,
): Promise<AppendOutcome> {
  const { rev, epoch, expectedSeq } = place;
  const by = log.incarnation;
  const payload = encodeEvent({
    rev,
    epoch,
    by,
    at: 1,
    opsJson: JSON.stringify({ op: "add", path: rev === 1 ? "" : "/n", value: rev === 1 ? { n: 1 } : value }),
    cause: { shard: 0, session: "s", s: rev, t: "MESSAGE_CREATE" },
    effects: [],
  });
  const claim = { messageId: log.newMessageId(), rev, epoch, by, expectedSeq };
  return new Promise((resolve) => log.append({ subject, kind: "event", payload, claim }, resolve));
}

for (const version of natsVersions) {
  test(`${version}: one writer's events are stored one after the other`, async (t) => {
    const { writer } = await setup(t, version);
    const log = writer("a.1");
    t.deepEqual(await append(log, { rev: 1, epoch: 1, expectedSeq: 0 }), { verdict: "stored", seq: 1 });
    t.deepEqual(await append(log, { rev: 2, epoch: 1, expectedSeq: 1 }), { verdict: "stored", seq: 2 });
    const last = await log.readLast(subject);
    t.is(last?.message.rev, 2);
    t.is(last?.previousSeq, 1);
  });

  test(`${version}: a stale writer is fenced by the next owner's claim`, async (t) => {
    const { writer } = await setup(t, version);
    const [old, next] = [writer("old.1"), writer("next.1")];
    await append(old, { rev: 1, epoch: 1, expectedSeq: 0 });
    t.is((await append(next, { rev: 2, epoch: 2, expectedSeq: 1 })).verdict, "stored");
    t.deepEqual(await append(old, { rev: 2, epoch: 1, expectedSeq: 1 }), {
      verdict: "fenced",
      by: "next.1",
      epoch: 2,
    });
  });

  test(`${version}: a zombie's last write comes before the claim: overtaken, not lost`, async (t) => {
    const { writer } = await setup(t, version);
    const [zombie, next] = [writer("zombie.1"), writer("next.1")];
    await append(zombie, { rev: 1, epoch: 1, expectedSeq: 0 });
    await append(zombie, { rev: 2, epoch: 1, expectedSeq: 1 });
    const outcome = await append(next, { rev: 2, epoch: 2, expectedSeq: 1 });
    t.deepEqual(outcome, { verdict: "overtaken", by: "zombie.1", seq: 2 });
  });

  test(`${version}: garbage published by hand on the subject does not stop its writer`, async (t) => {
    const { nc, writer } = await setup(t, version);
    const log = writer("a.1");
    await append(log, { rev: 1, epoch: 1, expectedSeq: 0 });
    await nc.jetstream().publish(subject, "garbage");
    t.deepEqual(await append(log, { rev: 2, epoch: 1, expectedSeq: 1 }), { verdict: "stored", seq: 3 });
  });

  test(`${version}: a message over max_payload is refused and nothing is stored`, async (t) => {
    const { writer } = await setup(t, version);
    const log = writer("a.1");
    await append(log, { rev: 1, epoch: 1, expectedSeq: 0 });
    const outcome = await append(log, { rev: 2, epoch: 1, expectedSeq: 1 }, "x".repeat(9_000_000));
    t.is(outcome.verdict, "refused");
    t.is((await log.readLast(subject))?.message.rev, 1);
  });

  test(`${version}: a long history is read whole and in order, garbage left out`, async (t) => {
    const { nc, writer } = await setup(t, version);
    const log = writer("a.1");
    const count = limits.readSinglyMax + limits.readerBatchMessages * 2 + 10;
    let expectedSeq = 0;
    for (let rev = 1; rev <= count; rev += 1) {
      const outcome = await append(log, { rev, epoch: 1, expectedSeq });
      expectedSeq = outcome.verdict === "stored" ? outcome.seq : 0;
      if (rev % 400 === 0) expectedSeq = (await nc.jetstream().publish(subject, "garbage")).seq;
      // Others' events lie between.
      if (rev % 3 === 0) await nc.jetstream().publish(guildSubject("175928847299117064"), "{}");
    }
    const endSeq = expectedSeq;
    await append(log, { rev: count + 1, epoch: 1, expectedSeq });
    const revisions: number[] = [];
    const startedAt = performance.now();
    for await (const stored of log.readAll(subject, endSeq)) revisions.push(stored.message.rev);
    t.log(`${count} messages in ${Math.round(performance.now() - startedAt)} ms`);
    t.deepEqual(
      revisions,
      Array.from({ length: count }, (_, index) => index + 1),
    );
  });

  test(`${version}: the server is killed under a hundred appends: each ends stored, once`, async (t) => {
    const { server, writer } = await setup(t, version);
    const log = writer("a.1");
    let expectedSeq = 0;
    const killAt = 40;
    for (let rev = 1; rev <= 100; rev += 1) {
      const outcome = append(log, { rev, epoch: 1, expectedSeq });
      if (rev === killAt) {
        await server.kill();
        await server.restart();
      }
      const stored = await outcome;
      if (stored.verdict !== "stored") return t.fail(`revision ${rev}: ${stored.verdict}`);
      expectedSeq = stored.seq;
    }
    const revisions: number[] = [];
    for await (const stored of log.readAll(subject, expectedSeq)) revisions.push(stored.message.rev);
    t.deepEqual(
      revisions,
      Array.from({ length: 100 }, (_, index) => index + 1),
    );
  });
}
