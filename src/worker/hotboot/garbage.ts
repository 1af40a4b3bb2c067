/** Owns collecting garbage by hand while guilds move: V8 keeps what a guild held for long otherwise. */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** Collects at every so manieth call; 0: never. It stops the process for some milliseconds, so it is an option. */
export function garbageCollector(every: number): () => void {
  if (every === 0) return () => {};
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  let calls = 0;
  return () => {
    calls += 1;
    if (calls % every === 0) collect();
  };
}
