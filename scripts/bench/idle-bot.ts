/** A bot whose handler looks at every dispatch and changes nothing: what is left is the runtime's own cost. */
import counting from "../../src/bots/counting.js";
import { defineBot } from "../../src/index.js";

let seen = 0;

export default defineBot<Record<string, never>>({
  name: "idle",
  intents: counting.intents,
  state: { version: 1, initial: () => ({}) },
  onAny() {
    seen += 1;
    if (seen === Number.MAX_SAFE_INTEGER) seen = 0;
  },
});
