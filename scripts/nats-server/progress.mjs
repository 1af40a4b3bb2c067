/**
 * Owns how the steps speak to the person: one line a step, and a percentage that grows in place on a terminal
 * (elsewhere a line a quarter). Everything goes to stderr, so that stdout stays free for what was asked for.
 * Used by nats-server.mjs and setup.mjs.
 */

const QUARTER = 0.25;

/**
 * @typedef {{ line: (text: string) => void, progress: (label: string) => (share: number) => void }} Reporter
 * @param {NodeJS.WriteStream} stream
 * @returns {Reporter}
 */
export function createReporter(stream = process.stderr) {
  let open = false;
  const endOpenLine = () => {
    if (open) stream.write("\n");
    open = false;
  };
  return {
    line(text) {
      endOpenLine();
      stream.write(`${text}\n`);
    },
    progress(label) {
      let shown = -1;
      return (share) => {
        const percent = Math.floor(Math.min(1, share) * 100);
        if (stream.isTTY) {
          if (percent === shown) return;
          stream.write(`\r  ${label} ${percent} %`);
          open = true;
          if (percent === 100) endOpenLine();
        } else {
          const quarter = Math.floor(share / QUARTER);
          if (quarter <= shown) return;
          stream.write(`  ${label} ${quarter * 25} %\n`);
          shown = quarter;
          return;
        }
        shown = percent;
      };
    },
  };
}

/** Says nothing: for tests and callers that only want the result. */
export const silentReporter = { line() {}, progress: () => () => {} };
