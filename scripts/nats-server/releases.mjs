/**
 * Owns the pinned release: which official archive fits this machine, and what its SHA-256 must be.
 * Used by release.mjs.
 *
 * The pins of 2.15.0 are those of the NATS project's own container definitions (Linux, Windows on amd64); the two for
 * macOS were read in several independent projects that agree. A version or platform without a pin here is checked
 * against the release's own SHA256SUMS file, fetched over the same TLS: that finds truncation and corruption, but
 * trusts the release page of the moment.
 */

/** What is fetched when no version is asked for: the newest one whose checksums are pinned below. */
export const RELEASE_VERSION = "2.15.0";

export const RELEASE_URL = "https://github.com/nats-io/nats-server/releases/download";

/** @type {Record<string, Record<string, string>>} version -> platform -> SHA-256 of the archive */
export const PINS = {
  "2.15.0": {
    "darwin-amd64": "5bd8b59ca5bf93fab3da2c5843cf564cd6e2e291e22ae3b861746e7ebe259b95",
    "darwin-arm64": "e1c4e22d70bd44abfa0bcb3c16f7cf0c66f648c2e728c58924e8a1ce88913cc8",
    "linux-386": "f572eccdbb35ab5c7fef7703a5b6ca49e55d039e441920ba5478972ecdcf7a47",
    "linux-amd64": "5d2c51caca950333aba84911df7d377f826f3a59ec36061c6539105084f65c92",
    "linux-arm64": "cdc208f5a3f42963a52b6ab06ef65626bb870315dc936e26ba571780c6351112",
    "linux-arm7": "ec5f4689d017e07cfa18442e10da051c0f3f9dd2e7f4dc7cdb55a11f1303c952",
    "linux-loong64": "fdce4b595b4b3a9f83d07ee310334b68a0723c799e969c9ab77f3105158fd64e",
    "linux-ppc64le": "a402bf73f91f674735cc85aa0e7d06d5dfa3044b98cda6ea9937cfee4e05a266",
    "linux-s390x": "ac50bf4adc8fa6db575ed9293417b6fbec746e71cc9d360aea5cd447e4207bfc",
    "windows-amd64": "2d0861dc2ca3567d17f7d19611d7b346cc2ccbd7086a0a77cc957a2c71663200",
  },
};

const SYSTEMS = { linux: "linux", darwin: "darwin", win32: "windows", freebsd: "freebsd" };
const PROCESSORS = {
  x64: "amd64",
  arm64: "arm64",
  arm: "arm7",
  ia32: "386",
  s390x: "s390x",
  ppc64: "ppc64le",
  loong64: "loong64",
  riscv64: "riscv64",
};

/**
 * @param {string} system `process.platform`
 * @param {string} processor `process.arch`
 * @returns {string | undefined} "linux-amd64"; undefined where no release is built
 */
export function releasePlatform(system = process.platform, processor = process.arch) {
  const os = SYSTEMS[system];
  const cpu = PROCESSORS[processor];
  return os && cpu ? `${os}-${cpu}` : undefined;
}

/** The archive's file name. */
export function archiveName(version, platform) {
  return `nats-server-v${version}-${platform}.${platform.startsWith("windows") ? "zip" : "tar.gz"}`;
}

/** The name of the program inside the archive and in the cache. */
export function binaryName(platform = releasePlatform()) {
  return platform?.startsWith("windows") ? "nats-server.exe" : "nats-server";
}
