/** A database node as a process of its own, for dbnode.test.ts to kill. Arguments: NATS URL, id, data folder. */
import { runDbnode } from "../../src/dbnode/dbnode.js";
import { connectNats } from "../../src/nats/connect.js";

const [url, id, dataDir] = process.argv.slice(2) as [string, string, string];
const quiet = (): void => {};
const log = { debug: quiet, info: quiet, warn: quiet, error: quiet };
const node = await runDbnode({ id, nc: await connectNats({ url, name: id }), dataDir, log });
node.failed.catch((error: { code?: string }) => {
  process.send?.({ failed: error.code, saved: node.status().saved });
});
// The test is gone: so is its node.
process.on("disconnect", () => process.exit(1));
