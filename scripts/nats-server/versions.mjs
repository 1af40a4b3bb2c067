/**
 * Owns what a nats-server version is: how it is read from a binary, compared, and which is the least we run on.
 * Used by every step of the resolution.
 */
import { execFile } from "node:child_process";

/** Below it per-subject expectations and rollups behave differently; the runtime refuses it as well. */
export const MIN_VERSION = "2.10.0";

const ASK_TIMEOUT_MS = 5_000;

/** Something a person must act on: `code` is one of the runtime's error codes, `hint` says what to do. */
export class NatsServerError extends Error {
  /**
   * @param {"NATS_SERVER_NOT_FOUND" | "NATS_SERVER_TOO_OLD"} code
   * @param {string} message
   * @param {{ hint?: string, cause?: unknown }} [options]
   */
  constructor(code, message, { hint, cause } = {}) {
    super(message, { cause });
    this.name = "NatsServerError";
    this.code = code;
    this.hint = hint;
  }
}

/** @param {string} version "2.10.27", "v2.10.27", "2.12.0-RC.1" */
function parse(version) {
  const match = /^v?(\d+)\.(\d+)\.(\d+)(?:-(.+))?$/.exec(version);
  if (!match) return undefined;
  return { numbers: [Number(match[1]), Number(match[2]), Number(match[3])], pre: match[4] };
}

export function isVersion(version) {
  return parse(version) !== undefined;
}

/** Negative, 0, positive; a pre-release comes before its release. */
export function compareVersions(a, b) {
  const left = parse(a);
  const right = parse(b);
  if (!left || !right) throw new Error(`not a version: ${left ? b : a}`);
  for (let i = 0; i < 3; i++) {
    const difference = left.numbers[i] - right.numbers[i];
    if (difference !== 0) return difference;
  }
  if (left.pre === right.pre) return 0;
  if (left.pre === undefined) return 1;
  if (right.pre === undefined) return -1;
  return left.pre < right.pre ? -1 : 1;
}

export function isNewEnough(version) {
  return compareVersions(version, MIN_VERSION) >= 0;
}

/**
 * Asks a binary for its version. Rejects when it does not run, hangs, or is no nats-server.
 * @param {string} path
 * @returns {Promise<string>} "2.10.27"
 */
export function binaryVersion(path) {
  return new Promise((resolve, reject) => {
    execFile(path, ["--version"], { timeout: ASK_TIMEOUT_MS }, (error, stdout, stderr) => {
      if (error) {
        reject(new Error(`${path} --version failed: ${stderr.trim() || error.message}`));
        return;
      }
      const match = /v?(\d+\.\d+\.\d+(?:-[\w.]+)?)/.exec(stdout);
      if (match) resolve(match[1]);
      else
        reject(
          new Error(`${path} --version said ${JSON.stringify(stdout.slice(0, 80))}, which is no version`),
        );
    });
  });
}
