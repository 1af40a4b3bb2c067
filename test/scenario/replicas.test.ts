/**
 * Three nats-servers, three replicas: the server that leads the guild log is killed under load, twice. Nothing that was
 * acknowledged may be missing, nothing may be applied twice, and no session is spent for it.
 */
import test from "ava";
import { consumerOpts } from "nats";
import { decodeMessage } from "../../src/core/event.js";
import { guildsStream, kindHeader } from "../../src/core/subjects.js";
import { streamInfo, streamInfoInTime } from "../../src/nats/stream-info.js";
import { type Cluster, until, withCluster } from "../helpers/cluster.js";

const shards = 4;

test("kill -9 of the log's leader, twice: nothing lost, nothing twice, no new session", async (t) => {
  const cluster = await withCluster(t, {
    replicas: 3,
    workers: 2,
    shards,
    simulator: { ratePerSecond: 300 },
  });
  const { simulator, nats, nc } = cluster;
  t.is((await streamInfo(nc)).replicas, 3);
  await until("every shard has its session", () => simulator.stats().identifies === shards);
  simulator.setTraffic({ running: true });
  await until("900 dispatches", () => simulator.stats().dispatches >= 900);
  for (let kills = 0; kills < 2; kills += 1) {
    const leader = (await nats.leaderOf(guildsStream))!;
    const killedAt = performance.now();
    const { lastSeq } = await streamInfo(nc);
    await leader.kill();
    await streamInfoInTime({ nc, isStopped: () => false, onTrouble: () => {} });
    t.log(`${Math.round(performance.now() - killedAt)} ms from kill to the next leader's answer`);
    await until("appends again", async () => (await streamInfo(nc)).lastSeq > lastSeq + 300);
    await leader.restart();
    await nats.current();
  }
  await cluster.settled();
  const verdict = await cluster.verdict();
  t.log(verdict);
  t.true(verdict.expected > 4_000);
  t.is(verdict.lost, 0);
  t.is(verdict.duplicated, 0);
  t.is(simulator.stats().identifies, shards, "one IDENTIFY a shard, at the first boot");
  const [first, second] = cluster.checksums();
  t.is(first, second);
  t.true((await historiesOf(cluster)) >= 200);
  for (const { id, output } of [...cluster.workers, ...cluster.dbnodes]) {
    t.notRegex(output, /stream_rewound|starting over/, `${id} was fooled`);
  }
});

/** Reads the whole log: revisions follow each other, epochs never fall. How many guilds there are. */
async function historiesOf({ nc }: Cluster): Promise<number> {
  const { lastSeq } = await streamInfo(nc);
  const options = consumerOpts().orderedConsumer().deliverAll().bindStream(guildsStream);
  const log = await nc.jetstream().subscribe("guild.>", options);
  const last = new Map<string, { rev: number; epoch: number }>();
  for await (const message of log) {
    const text = Buffer.from(message.data).toString();
    const { rev, epoch } = decodeMessage(message.headers?.get(kindHeader), text);
    const before = last.get(message.subject) ?? { rev: 0, epoch: 0 };
    if (rev !== before.rev + 1) throw new Error(`${message.subject}: revision ${rev} after ${before.rev}`);
    if (epoch < before.epoch) throw new Error(`${message.subject}: epoch ${epoch} after ${before.epoch}`);
    last.set(message.subject, { rev, epoch });
    if (message.seq >= lastSeq) break;
  }
  return last.size;
}
