/** The types of nats-server.mjs, for the embedded server and the tests; the comments are there. */

export interface ResolvedNatsServer {
  /** Absolute path of the program. */
  path: string;
  /** "2.15.1" */
  version: string;
  /** "NATS_SERVER", "PATH", "cache", or where it has just been fetched from. */
  source: string;
}

export interface Reporter {
  line(text: string): void;
  progress(label: string): (share: number) => void;
}

export interface ReleaseStepOptions {
  baseUrl?: string;
  platform?: string;
  /** version -> platform -> SHA-256 of the archive. */
  pins?: Record<string, Record<string, string>>;
  bounds?: { answerTimeoutMs?: number; stallTimeoutMs?: number; totalTimeoutMs?: number };
}

export interface ResolveOptions {
  /** Exactly this version; default: GUILDSTREAM_NATS_VERSION, else any that is new enough. */
  version?: string | undefined;
  /** Default: process.env. */
  env?: Record<string, string | undefined>;
  /** Default: GUILDSTREAM_CACHE_DIR, else `.cache/nats-server` in the project. */
  cacheDir?: string;
  /** Default: lines on stderr. */
  reporter?: Reporter;
  /** false leaves the step out. */
  release?: ReleaseStepOptions | false;
  /** false leaves the step out; etcDir stands in for /etc. */
  debian?: { etcDir?: string } | false;
}

export function resolveNatsServer(options?: ResolveOptions): Promise<ResolvedNatsServer>;

/** Carries one of the runtime's error codes and a hint for the person. */
export class NatsServerError extends Error {
  readonly code: "NATS_SERVER_NOT_FOUND" | "NATS_SERVER_TOO_OLD";
  readonly hint: string | undefined;
}
