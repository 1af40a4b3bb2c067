/** Owns waiting in tests: for a condition, never for a time. */
/** Waits for a condition; fails the test with its name when it does not come. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  timeoutMs = 60_000,
): Promise<void> {
  const deadlineAt = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadlineAt) throw new Error(`waited ${timeoutMs} ms in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
