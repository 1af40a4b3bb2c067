/**
 * Owns the step "official release archive": names it, downloads it, checks its SHA-256, takes the binary out.
 * Nothing is written here; the caller installs what comes back. Used by nats-server.mjs.
 */
import { readFromArchive } from "./archive.mjs";
import { sha256Of } from "./cache.mjs";
import { download } from "./download.mjs";
import { archiveName, binaryName, PINS, RELEASE_URL, RELEASE_VERSION, releasePlatform } from "./releases.mjs";

/**
 * @typedef {object} ReleaseOptions
 * @property {string} [version] default: the pinned one
 * @property {string} [baseUrl] a mirror laid out like the release page
 * @property {string} [platform]
 * @property {Record<string, Record<string, string>>} [pins]
 * @property {import("./download.mjs").DownloadBounds} [bounds]
 * @param {ReleaseOptions} options
 * @param {import("./progress.mjs").Reporter} reporter
 * @returns {Promise<{ binary: Buffer, version: string, source: string }>}
 */
export async function fetchRelease(options, reporter) {
  const { version = RELEASE_VERSION, baseUrl = RELEASE_URL, platform = releasePlatform() } = options;
  const { pins = PINS, bounds = {} } = options;
  if (!platform) throw new Error(`no release is built for ${process.platform} on ${process.arch}`);
  const file = archiveName(version, platform);
  const folder = `${baseUrl.replace(/\/+$/, "")}/v${version}`;
  reporter.line(`nats-server ${version}: fetching the release archive ${folder}/${file}`);
  const pinned = pins[version]?.[platform];
  const expected = pinned ?? (await fetchChecksum(folder, file, bounds));
  const archive = await download(`${folder}/${file}`, { ...bounds, onProgress: reporter.progress(file) });
  const actual = sha256Of(archive);
  if (actual !== expected) {
    const origin = pinned ? "pinned here" : "in the release's SHA256SUMS";
    throw new Error(`${file} is not what it should be: SHA-256 ${actual}, but ${expected} is ${origin}`);
  }
  return {
    binary: readFromArchive(archive, file, binaryName(platform)),
    version,
    source: `${folder}/${file}`,
  };
}

async function fetchChecksum(folder, file, bounds) {
  const sums = (await download(`${folder}/SHA256SUMS`, bounds)).toString("utf8");
  for (const line of sums.split("\n")) {
    const match = /^([0-9a-f]{64})[ \t]+\*?(\S+)$/i.exec(line.trim());
    if (match?.[2] === file) return match[1].toLowerCase();
  }
  throw new Error(`${folder}/SHA256SUMS does not name ${file}`);
}
