/**
 * Owns one HTTP download into memory: bounded in time and size, checked for completeness, with progress.
 * It fails fast: a server that does not answer, or stops in the middle, costs seconds. Nothing touches the disk here.
 * Used by release.mjs.
 */

/** Until the response's headers are here, for each hop of a redirect; connecting is part of it. */
const ANSWER_TIMEOUT_MS = 5_000;
/** Between two pieces of the body. */
const STALL_TIMEOUT_MS = 10_000;
const TOTAL_TIMEOUT_MS = 5 * 60_000;
const REDIRECTS_MAX = 5;
const BODY_MAX_BYTES = 100 * 1024 * 1024;

/**
 * @typedef {{ answerTimeoutMs?: number, stallTimeoutMs?: number, totalTimeoutMs?: number }} DownloadBounds
 * @param {string} url
 * @param {DownloadBounds & { onProgress?: (share: number) => void }} [options]
 * @returns {Promise<Buffer>}
 */
export async function download(url, options = {}) {
  const { answerTimeoutMs = ANSWER_TIMEOUT_MS, stallTimeoutMs = STALL_TIMEOUT_MS } = options;
  const { totalTimeoutMs = TOTAL_TIMEOUT_MS, onProgress = () => {} } = options;
  const abort = new AbortController();
  let timer;
  /** One timer, armed anew for each thing waited for; what it says is what the person reads. */
  const arm = (ms, what) => {
    clearTimeout(timer);
    timer = setTimeout(() => abort.abort(new Error(`${what} for ${ms / 1_000} s`)), ms);
  };
  const total = setTimeout(
    () => abort.abort(new Error(`not finished after ${totalTimeoutMs / 1_000} s`)),
    totalTimeoutMs,
  );
  try {
    const response = await follow(url, abort.signal, () => arm(answerTimeoutMs, "no answer"));
    return await readBody(response, () => arm(stallTimeoutMs, "no data"), onProgress);
  } catch (error) {
    throw new Error(`${url}: ${reasonOf(abort.signal.aborted ? abort.signal.reason : error)}`, {
      cause: error,
    });
  } finally {
    clearTimeout(timer);
    clearTimeout(total);
    abort.abort();
  }
}

async function follow(start, signal, arm) {
  let url = new URL(start);
  for (let hop = 0; hop <= REDIRECTS_MAX; hop++) {
    arm();
    const response = await fetch(url, { signal, redirect: "manual" });
    if (response.ok) return response;
    const location = response.headers.get("location");
    if (response.status < 300 || response.status > 399 || !location)
      throw new Error(`HTTP ${response.status}`);
    const next = new URL(location, url);
    if (url.protocol === "https:" && next.protocol !== "https:")
      throw new Error(`redirected away from https`);
    url = next;
  }
  throw new Error(`more than ${REDIRECTS_MAX} redirects`);
}

async function readBody(response, arm, onProgress) {
  // With a content encoding the length counts packed bytes and says nothing about ours.
  const declared = response.headers.get("content-encoding") ? null : response.headers.get("content-length");
  const expectedBytes = declared === null ? undefined : Number(declared);
  const pieces = [];
  let receivedBytes = 0;
  arm();
  try {
    for await (const piece of response.body) {
      arm();
      pieces.push(piece);
      receivedBytes += piece.length;
      if (receivedBytes > BODY_MAX_BYTES) throw new Error(`larger than ${BODY_MAX_BYTES} bytes`);
      if (expectedBytes) onProgress(receivedBytes / expectedBytes);
    }
  } catch (error) {
    if (expectedBytes === undefined || receivedBytes >= expectedBytes) throw error;
    throw new Error(`cut off after ${receivedBytes} of ${expectedBytes} bytes (${reasonOf(error)})`, {
      cause: error,
    });
  }
  if (expectedBytes !== undefined && receivedBytes !== expectedBytes) {
    throw new Error(`cut off after ${receivedBytes} of ${expectedBytes} bytes`);
  }
  return Buffer.concat(pieces, receivedBytes);
}

/** fetch says "fetch failed" or "terminated"; what happened is in the cause. */
function reasonOf(error) {
  const cause = error instanceof TypeError ? error.cause : undefined;
  return cause?.code ?? cause?.message ?? error?.message ?? String(error);
}
