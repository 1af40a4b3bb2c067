/** Owns how figures are shown: one line each, beside its aim and whether it was met. */

export interface Aim {
  atLeast?: number;
  atMost?: number;
}

export interface Row {
  figure: string;
  value: string;
  aim: string;
  verdict: "" | "met" | "missed";
}

/** Figures as rows, nested ones by their dotted path. */
export function judge(bench: string, figures: object, aims: Record<string, Aim>): Row[] {
  return flatten(figures).map(([path, value]) => {
    const aim = aims[path];
    return {
      figure: `${bench}.${path}`,
      value: typeof value === "number" ? value.toLocaleString("en-US") : String(value),
      aim: aim === undefined ? "" : aimText(aim),
      verdict: aim === undefined || typeof value !== "number" ? "" : meets(value, aim) ? "met" : "missed",
    };
  });
}

export function table(rows: readonly Row[]): string {
  const width = (column: "figure" | "value" | "aim"): number =>
    Math.max(column.length, ...rows.map((row) => row[column].length));
  const [figure, value, aim] = [width("figure"), width("value"), width("aim")];
  const lines = [{ figure: "figure", value: "value", aim: "aim", verdict: "" }, ...rows].map((row) =>
    `${row.figure.padEnd(figure)}  ${row.value.padStart(value)}  ${row.aim.padEnd(aim)}  ${row.verdict}`.trimEnd(),
  );
  return `${lines.join("\n")}\n`;
}

function flatten(figures: object, prefix = ""): [string, unknown][] {
  return Object.entries(figures).flatMap(([key, value]) =>
    value !== null && typeof value === "object"
      ? flatten(value as object, `${prefix}${key}.`)
      : [[`${prefix}${key}`, value] as [string, unknown]],
  );
}

function aimText({ atLeast, atMost }: Aim): string {
  return atLeast === undefined ? `<= ${atMost}` : `>= ${atLeast}`;
}

function meets(value: number, { atLeast, atMost }: Aim): boolean {
  return value >= (atLeast ?? Number.NEGATIVE_INFINITY) && value <= (atMost ?? Number.POSITIVE_INFINITY);
}
