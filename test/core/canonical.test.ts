import test from "ava";
import fc from "fast-check";
import {
  canonicalJson,
  combineChecksum,
  documentChecksum,
  formatChecksum,
  zeroChecksum,
} from "../../src/core/canonical.js";

/** The same value with every object's keys in another order. */
function reordered(value: unknown): unknown {
  if (value === null || typeof value !== "object") return value;
  if (Array.isArray(value)) return value.map(reordered);
  return Object.fromEntries(
    Object.entries(value)
      .reverse()
      .map(([key, child]) => [key, reordered(child)]),
  );
}

const json = fc.jsonValue({ maxDepth: 4 }).filter((value) => !JSON.stringify(value).includes("__proto__"));

test("the order of keys does not matter and nothing is lost", (t) => {
  fc.assert(
    fc.property(json, (value) => {
      const plain: unknown = JSON.parse(JSON.stringify(value));
      const text = canonicalJson(plain);
      t.deepEqual(JSON.parse(text), plain);
      t.is(canonicalJson(reordered(plain)), text);
    }),
    { numRuns: 500, verbose: true },
  );
});

test("numbers and texts are as JSON.stringify writes them, keys sorted by code unit", (t) => {
  for (const value of [0, -0, 1e21, 1e-7, 0.1, 'ü"\\\n\u2028', true, null, [], {}]) {
    t.is(canonicalJson(value), JSON.stringify(value));
  }
  t.is(
    canonicalJson({ b: 1, a: 2, 'q"': 3, Z: 4, 10: 5, 9: 6 }),
    '{"10":5,"9":6,"Z":4,"a":2,"b":1,"q\\"":3}',
  );
  t.is(canonicalJson(undefined), "");
});

test("the total checksum does not depend on the order, and a part can be taken away", (t) => {
  const parts = Array.from({ length: 20 }, (_, index) => documentChecksum(`guild${index}`, index, "{}"));
  const total = parts.reduce(combineChecksum, zeroChecksum);
  t.deepEqual([...parts].reverse().reduce(combineChecksum, zeroChecksum), total);
  t.deepEqual(combineChecksum(combineChecksum(total, parts[3]!), parts[3]!), total);
  t.is(formatChecksum([1, 0xffffffff]), "00000001ffffffff");
});

test("the checksum tells guild, revision and state apart", (t) => {
  const base = formatChecksum(documentChecksum("1", 2, "{}"));
  t.not(formatChecksum(documentChecksum("2", 2, "{}")), base);
  t.not(formatChecksum(documentChecksum("1", 3, "{}")), base);
  t.not(formatChecksum(documentChecksum("1", 2, "[]")), base);
});
