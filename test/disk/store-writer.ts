/** A process for store.test.ts to kill: writes batches into a folder and says on stdout what it was told is on disk. */
import { checksumOf } from "../../src/disk/record.js";
import { openStore, type StoredDocument } from "../../src/disk/store.js";

const store = await openStore(process.argv[2]!);
const size = Number(process.argv[3] ?? 200);
try {
  for (let batch = store.watermark.saved + 1; ; batch += 1) {
    const documents = Array.from({ length: 20 }, (_, index): [string, StoredDocument] => {
      const stateText = JSON.stringify({ batch, text: "x".repeat(size) });
      const guildId = `guild${(batch * 7 + index) % 50}`;
      const checksum = checksumOf(guildId, batch, stateText);
      const place = { rev: batch, epoch: 1, seq: batch, by: "w", cursor: null, broken: undefined };
      return [guildId, { ...place, stateText, checksum }];
    });
    const quarantine = [{ seq: batch, subject: "guild.x", reason: "test", at: batch }];
    const watermark = { ...store.watermark, streamCreated: "then", saved: batch, guildCount: 50 };
    await store.writeBatch({ documents, quarantine, watermark });
    process.stdout.write(`saved ${batch}\n`);
  }
} catch (error) {
  const { code, hint } = error as { code?: string; hint?: string };
  process.stdout.write(`failed ${code} at ${store.watermark.saved} ${hint}\n`);
  await store.close();
}
