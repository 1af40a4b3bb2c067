/**
 * Owns what a run says while it runs: steps of its boot and end, then a live view on a terminal or a plain line every
 * few seconds elsewhere. Notes (a process died and was started again) stay in view for a while, and are lines elsewhere.
 */
import { messageOf } from "../../core/errors.js";
import { limits } from "../../core/limits.js";
import { type Picture, renderFrame, renderLine } from "../view/frame.js";
import { TerminalView } from "../view/terminal.js";

export class Screen {
  /** The last notes, for the view. */
  readonly notes: string[] = [];
  readonly #out: NodeJS.WriteStream;
  #view: TerminalView | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(out: NodeJS.WriteStream) {
    this.#out = out;
  }

  step(text: string): void {
    this.#out.write(`${text}\n`);
  }

  note(text: string): void {
    const at = new Date().toTimeString().slice(0, 8);
    this.notes.push(`${at} ${text}`);
    if (this.notes.length > limits.ops.notesShown) this.notes.shift();
    if (this.#view === undefined) this.#out.write(`${text}\n`);
  }

  startLive(take: () => Promise<Picture>): void {
    const isTerminal = this.#out.isTTY === true;
    if (isTerminal) this.#view = new TerminalView(this.#out);
    let isTaking = false;
    const show = async (): Promise<void> => {
      if (isTaking) return; // The last one still waits for an answer; a late picture is better than two.
      isTaking = true;
      try {
        const picture = await take();
        if (this.#timer === undefined) return;
        if (this.#view !== undefined) this.#view.draw(renderFrame(picture, this.#view.columns));
        else this.#out.write(`${renderLine(picture)}\n`);
      } catch (error) {
        this.note(`the view has no numbers: ${messageOf(error)}`);
      } finally {
        isTaking = false;
      }
    };
    this.#timer = setInterval(
      () => void show(),
      isTerminal ? limits.ops.viewIntervalMs : limits.ops.plainLineIntervalMs,
    );
  }

  endLive(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#view?.stop();
    this.#view = undefined;
  }
}
