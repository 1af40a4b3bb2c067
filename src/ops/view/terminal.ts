/**
 * Owns the terminal while the live view is on it: redraws in place, in one write a frame so that nothing flickers.
 * Invariant: the cursor is shown again however the process ends (short of SIGKILL).
 */
const hideCursor = "\x1b[?25l";
const showCursor = "\x1b[?25h";
const clearScreen = "\x1b[2J\x1b[H";
const clearLineEnd = "\x1b[K";
const clearBelow = "\x1b[J";
const defaultColumns = 80;
const defaultRows = 24;

export class TerminalView {
  readonly #out: NodeJS.WriteStream;
  #drawn = 0;
  #isResized = false;
  readonly #onResize = (): void => {
    this.#isResized = true;
  };
  readonly #restore = (): void => {
    this.#out.write(showCursor);
  };

  constructor(out: NodeJS.WriteStream) {
    this.#out = out;
    out.write(hideCursor);
    out.on("resize", this.#onResize);
    process.once("exit", this.#restore);
  }

  get columns(): number {
    return this.#out.columns ?? defaultColumns;
  }

  /** Lines that can be drawn: more would scroll, and the way back up would be wrong. */
  get rows(): number {
    return Math.max(1, (this.#out.rows ?? defaultRows) - 1);
  }

  draw(lines: readonly string[]): void {
    const shown = lines.slice(0, this.rows);
    // The terminal has reflowed the old frame: nobody knows where it began.
    const start = this.#isResized ? clearScreen : this.#drawn > 0 ? `\x1b[${this.#drawn}A\r` : "";
    this.#isResized = false;
    this.#drawn = shown.length;
    this.#out.write(`${start}${shown.map((line) => `${line}${clearLineEnd}\n`).join("")}${clearBelow}`);
  }

  /** Leaves the last frame where it is and gives the terminal back. */
  stop(): void {
    this.#out.off("resize", this.#onResize);
    process.off("exit", this.#restore);
    this.#restore();
  }
}
