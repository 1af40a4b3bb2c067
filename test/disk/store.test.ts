/** The store's promise: what `writeBatch` resolved for is there after kill -9, whole; damage and full disks are named. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import test from "ava";
import { open } from "lmdb";
import { checksumOf } from "../../src/disk/record.js";
import { openStore, type StoredDocument } from "../../src/disk/store.js";
import { tempDir } from "../helpers/nats.js";

const writer = fileURLToPath(new URL("./store-writer.js", import.meta.url));

function documentOf(guildId: string, rev: number, state: unknown): [string, StoredDocument] {
  const stateText = state === undefined ? "" : JSON.stringify(state);
  const checksum = checksumOf(guildId, rev, stateText);
  const cursor = { session: "abc", s: rev };
  return [guildId, { rev, epoch: 2, seq: rev * 10, by: "w", cursor, stateText, checksum, broken: undefined }];
}

function watermarkOf(saved: number) {
  return {
    streamCreated: "then",
    saved,
    savedTimeNs: "5",
    checksum: [saved, 2] as const,
    guildCount: 1,
  };
}

async function untilSaved(child: ChildProcess, batch: number): Promise<number> {
  let last = 0;
  for await (const line of createInterface({ input: child.stdout! })) {
    last = Number(/^saved (\d+)$/.exec(line)?.[1] ?? last);
    if (last >= batch) child.kill("SIGKILL"); // Whatever it printed before it died counts as well.
  }
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  return last;
}

test("a batch is read back, also after reopening; reset leaves nothing", async (t) => {
  const folder = await tempDir(t);
  let store = await openStore(folder);
  t.is(store.watermark.saved, 0);
  t.is(store.read("1"), undefined);
  const [guildId, document] = documentOf("1", 3, { text: "ü\n\u0000", list: [1] });
  const broken: StoredDocument = { ...documentOf("2", 1, {})[1], broken: "gap" };
  const gone = documentOf("3", 4, undefined);
  const quarantine = [{ seq: 7, subject: "guild.00.1", guildId: "1", reason: "why", at: 5 }];
  await store.writeBatch({
    documents: [[guildId, document], ["2", broken], gone],
    quarantine,
    watermark: watermarkOf(30),
  });
  for (const reopened of [false, true]) {
    if (reopened) {
      await store.close();
      store = await openStore(folder);
    }
    t.deepEqual(store.read("1"), document);
    t.deepEqual(store.read("2"), broken);
    t.deepEqual(store.read("3"), gone[1]);
    t.deepEqual(store.watermark, watermarkOf(30));
    t.deepEqual(store.quarantineList(), quarantine);
    t.is(store.quarantined, 1);
  }
  await store.writeBatch({ documents: [], removed: ["2"], quarantine: [], watermark: watermarkOf(31) });
  t.is(store.read("2"), undefined);
  await store.reset();
  t.is(store.watermark.saved, 0);
  t.deepEqual([...store.readAll()], []);
  t.deepEqual(store.quarantineList(), []);
  await store.close();
});

test("a batch that fails leaves nothing of itself", async (t) => {
  const store = await openStore(await tempDir(t));
  t.teardown(() => store.close());
  await store.writeBatch({ documents: [documentOf("1", 1, {})], quarantine: [], watermark: watermarkOf(1) });
  const documents = (function* () {
    yield documentOf("1", 2, {});
    yield documentOf("2", 2, {});
    throw new Error("midway");
  })();
  await t.throwsAsync(store.writeBatch({ documents, quarantine: [], watermark: watermarkOf(2) }), {
    code: "DISK_FAILED",
  });
  t.is(store.read("1")?.rev, 1);
  t.is(store.read("2"), undefined);
  t.is(store.watermark.saved, 1);
  await store.writeBatch({ documents: [documentOf("1", 3, {})], quarantine: [], watermark: watermarkOf(3) });
  t.is(store.read("1")?.rev, 3);
});

test("I4: what a killed process announced is there, in whole batches", async (t) => {
  const folder = await tempDir(t);
  let announced = 0;
  for (let round = 0; round < 3; round += 1) {
    const child = spawn(process.execPath, [writer, folder], { stdio: ["ignore", "pipe", "inherit"] });
    const last = await untilSaved(child, announced + 15);
    t.true(last > announced, `round ${round}: ${last} after ${announced}`);
    announced = last;
    const store = await openStore(folder);
    const { saved } = store.watermark;
    t.true(saved >= announced, `saved ${saved}, announced ${announced}`);
    t.is(store.quarantineList().at(-1)?.seq, saved);
    for (const [guildId, document] of store.readAll()) {
      // The newest batch up to the watermark that wrote this guild is the one that is there.
      let expected = saved;
      while (!Array.from({ length: 20 }, (_, i) => `guild${(expected * 7 + i) % 50}`).includes(guildId))
        expected -= 1;
      t.is(document.rev, expected, guildId);
    }
    await store.close();
  }
});

test("a damaged document is an error that names the guild", async (t) => {
  const folder = await tempDir(t);
  const guildId = "175928847299117063";
  let store = await openStore(folder);
  await store.writeBatch({
    documents: [documentOf(guildId, 1, { count: 12345 }), documentOf("2", 1, {})],
    quarantine: [],
    watermark: watermarkOf(1),
  });
  await store.close();
  const root = open({ path: folder });
  const documents = root.openDB<string, string>("documents", { encoding: "string" });
  await documents.put(guildId, documents.get(guildId)!.replace("12345", "12346"));
  await root.close();
  store = await openStore(folder);
  t.teardown(() => store.close());
  t.throws(() => store.read(guildId), { code: "DISK_FAILED", message: new RegExp(guildId) });
  t.is(store.read("2")?.rev, 1);
});

test("a folder has one node at a time; a dead one's lock is stale", async (t) => {
  const folder = await tempDir(t);
  const child = spawn(process.execPath, [writer, folder], { stdio: ["ignore", "pipe", "inherit"] });
  await once(child.stdout!, "data");
  const error = await t.throwsAsync(openStore(folder), { code: "DATA_DIR_IN_USE" });
  t.regex(error!.message, new RegExp(`process ${child.pid}`));
  child.kill("SIGKILL");
  await once(child, "exit");
  const store = await openStore(folder);
  await t.throwsAsync(openStore(folder), { code: "DATA_DIR_IN_USE" });
  const lock = join(folder, "node.lock");
  const text = readFileSync(lock, "utf8");
  await store.close();
  // A container starts again with the same pid: the lock of the life before names it, with another start time.
  writeFileSync(lock, JSON.stringify({ ...JSON.parse(text), startedAt: "1" }));
  await (await openStore(folder)).close();
  writeFileSync(lock, "half a li");
  await (await openStore(folder)).close();
});

test("a full disk is named, nothing of the batch is stored, and the node can go on later", async (t) => {
  const folder = await tempDir(t);
  // A limit on the size of files stands in for a disk that is full; 2,000 blocks of 1,024 bytes.
  const script = `ulimit -f 2000; exec "${process.execPath}" "${writer}" "${folder}" 20000`;
  const child = spawn("bash", ["-c", script], { stdio: ["ignore", "pipe", "ignore"] });
  let failed = "";
  let announced = 0;
  for await (const line of createInterface({ input: child.stdout! })) {
    if (line.startsWith("failed")) failed = line;
    else announced = Number(line.split(" ")[1]);
  }
  t.regex(failed, new RegExp(`^failed DISK_FULL at ${announced} free some space`));
  t.true(announced > 0);
  const store = await openStore(folder);
  t.is(store.watermark.saved, announced);
  for (const [, document] of store.readAll()) t.true(document.rev <= announced);
  await store.writeBatch({
    documents: [documentOf("1", 1, {})],
    quarantine: [],
    watermark: watermarkOf(1_000),
  });
  t.is(store.watermark.saved, 1_000);
  await store.close();
});
