/**
 * Seeded randomness: the same seed gives the same world and the same traffic on every machine.
 *
 * Two tools: `mix` hashes integers (random access: the n-th member of the g-th guild without
 * making the others), `Random` is a small sequential generator (mulberry32). Neither is for secrets.
 */

/** A well-spread unsigned 32-bit hash of up to four integers. */
export function mix(a: number, b = 0, c = 0, d = 0): number {
  let h = Math.imul(a ^ 0x9e3779b9, 0x85ebca6b);
  h = Math.imul((h ^ (h >>> 15)) + b, 0xc2b2ae35);
  h = Math.imul((h ^ (h >>> 13)) + c, 0x27d4eb2f);
  h = Math.imul((h ^ (h >>> 16)) + d, 0x165667b1);
  h = Math.imul(h ^ (h >>> 15), 0x85ebca6b);
  return (h ^ (h >>> 13)) >>> 0;
}

/** A hash of the given integers as a fraction in [0, 1). */
export function fraction(a: number, b = 0, c = 0, d = 0): number {
  return mix(a, b, c, d) / 4_294_967_296;
}

/** Lower-case hexadecimal of `words` hashed 32-bit words, as Discord's image hashes look. */
export function hexHash(words: number, a: number, b = 0, c = 0): string {
  let out = "";
  for (let word = 0; word < words; word++) out += mix(a, b, c, word).toString(16).padStart(8, "0");
  return out;
}

/** A sequential generator; two with the same seed give the same numbers. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** The next fraction in [0, 1). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  }

  /** The next integer in [0, bound). */
  below(bound: number): number {
    return Math.floor(this.next() * bound);
  }

  /** One item of a list that is not empty. */
  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)] as T;
  }
}
