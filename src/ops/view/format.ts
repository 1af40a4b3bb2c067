/**
 * Owns how numbers and lists are shown to people: thousands apart, bytes as MB, times with a sensible number of digits,
 * long lists folded. Pure.
 */

const MB = 1_000_000;
const namesLengthMax = 80;

export function whole(value: number): string {
  return Math.round(value).toLocaleString("en-US");
}

export function megabytes(bytes: number): string {
  return `${whole(bytes / MB)} MB`;
}

export function milliseconds(value: number | null | undefined): string {
  if (value === null || value === undefined) return "–";
  return value < 10 ? `${value.toFixed(1)} ms` : `${whole(value)} ms`;
}

export function duration(seconds: number): string {
  const total = Math.floor(seconds);
  const parts = [Math.floor(total / 3600), Math.floor(total / 60) % 60, total % 60];
  const [hours, minutes, rest] = parts as [number, number, number];
  const text = `${String(minutes).padStart(2, "0")}:${String(rest).padStart(2, "0")}`;
  return hours > 0 ? `${hours}:${text}` : text;
}

export function plural(count: number, one: string, many = `${one}s`): string {
  return `${whole(count)} ${count === 1 ? one : many}`;
}

/** Neighbours together: `0-3 7`. With `lengthMax` what does not fit is counted: `0-3 7 … of 12`. */
export function ranges(numbers: readonly number[], lengthMax = Number.POSITIVE_INFINITY): string {
  const parts: string[] = [];
  for (let i = 0; i < numbers.length; i += 1) {
    const first = numbers[i]!;
    while (numbers[i + 1] === numbers[i]! + 1) i += 1;
    parts.push(first === numbers[i] ? `${first}` : `${first}-${numbers[i]}`);
  }
  return fold(parts, lengthMax, numbers.length, " ");
}

/** `worker-1, worker-2`; many of them are cut short and counted. */
export function names(list: readonly string[]): string {
  return fold(list, namesLengthMax, list.length, ", ");
}

/** Broken between words into lines of that width, each after the indent. */
export function wrap(text: string, width: number, indent: string): string[] {
  const lines: string[] = [];
  let line = indent;
  for (const word of text.split(" ")) {
    if (line !== indent && line.length + 1 + word.length > width) {
      lines.push(line);
      line = indent;
    }
    line += line === indent ? word : ` ${word}`;
  }
  return [...lines, line];
}

export function cut(line: string, columns: number): string {
  return line.length <= columns ? line : `${line.slice(0, Math.max(0, columns - 1))}…`;
}

function fold(parts: readonly string[], lengthMax: number, count: number, separator: string): string {
  const text = parts.join(separator);
  if (text.length <= lengthMax) return text;
  const rest = ` … of ${whole(count)}`;
  const kept = text.slice(0, Math.max(0, lengthMax - rest.length) + 1);
  // Only whole parts: half a number is a wrong number.
  return `${kept.slice(0, Math.max(0, kept.lastIndexOf(separator)))}${rest}`.trimStart();
}
