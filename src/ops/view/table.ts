/**
 * Owns tables for terminals: aligned columns, no wider than there is room, no longer than asked for. Pure.
 * What does not fit goes by whole columns, the least important first: half a number is a wrong number.
 */
import { cut } from "./format.js";

export interface Column<Row> {
  title: string;
  text: (row: Row) => string;
  /** Numbers are to the right, so that their digits stand below each other. */
  isNumber?: boolean;
  /** The higher, the sooner it goes when there is no room; 0 stays. */
  rank: number;
}

const gap = "  ";

/** The title line, then a line a row; rows beyond `rowsMax` become one line that counts them. */
export function table<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  width: number,
  rowsMax = Number.POSITIVE_INFINITY,
): string[] {
  const shown = rows.length > rowsMax ? rows.slice(0, Math.max(0, rowsMax - 1)) : rows;
  let cells = columns.map((column) => {
    const texts = [column.title, ...shown.map(column.text)];
    return { column, texts, width: Math.max(...texts.map((text) => text.length)) };
  });
  while (widthOf(cells) > width) {
    const rank = Math.max(...cells.map(({ column }) => column.rank));
    if (rank === 0) break;
    const last = cells.findLastIndex(({ column }) => column.rank === rank);
    cells = cells.filter((_, i) => i !== last);
  }
  const lines = Array.from({ length: shown.length + 1 }, (_, line) =>
    cells
      .map(({ column, texts, width }) =>
        column.isNumber === true ? texts[line]!.padStart(width) : texts[line]!.padEnd(width),
      )
      .join(gap)
      .trimEnd(),
  );
  if (shown.length < rows.length) lines.push(`… and ${rows.length - shown.length} more`);
  return lines.map((line) => cut(line, width));
}

function widthOf(cells: readonly { width: number }[]): number {
  return cells.reduce((sum, cell) => sum + cell.width, gap.length * (cells.length - 1));
}
