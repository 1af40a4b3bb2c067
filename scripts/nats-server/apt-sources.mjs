/**
 * Owns reading apt's configuration of package sources: the one-line format (.list) and deb822 (.sources).
 * Pure functions over text, so that every spelling can be tested without an apt. Used by debian.mjs.
 */

/**
 * @typedef {object} AptSource
 * @property {string[]} uris
 * @property {string[]} suites
 * @property {string[]} components
 * @property {string | undefined} signedBy a keyring's path, or an armoured key over several lines as it was written
 * @property {boolean} trusted the system's owner has this source unsigned
 */

/** `deb [signed-by=/k.gpg arch=amd64] http://host/debian trixie main contrib`; anything else is skipped. */
export function parseListFile(text) {
  /** @type {AptSource[]} */
  const sources = [];
  for (const raw of text.split("\n")) {
    const line = raw.replace(/#.*/, "").trim();
    const match = /^deb\s+(?:\[([^\]]*)\]\s+)?([^\s[]\S*)\s+(\S+)\s+(.+)$/.exec(line);
    if (!match) continue;
    const signedBy = /(?:^|\s)signed-by=(\S+)/i.exec(match[1] ?? "")?.[1];
    const trusted = /(?:^|\s)trusted=yes(?:\s|$)/i.test(match[1] ?? "");
    sources.push({ uris: [match[2]], suites: [match[3]], components: words(match[4]), signedBy, trusted });
  }
  return sources;
}

/** Paragraphs of `Field: value` with continuation lines; disabled ones and source-only ones are skipped. */
export function parseSourcesFile(text) {
  /** @type {AptSource[]} */
  const sources = [];
  for (const paragraph of text.split(/\n[ \t]*\n/)) {
    const fields = parseFields(paragraph);
    if (!words(fields.types).includes("deb") || /^(no|false|0|off)$/i.test(fields.enabled ?? "")) continue;
    const signedBy = fields["signed-by"] || undefined;
    sources.push({
      uris: words(fields.uris),
      suites: words(fields.suites),
      components: words(fields.components),
      signedBy,
      trusted: /^yes$/i.test(fields.trusted ?? ""),
    });
  }
  return sources;
}

function parseFields(paragraph) {
  /** @type {Record<string, string>} */
  const fields = {};
  let last;
  for (const line of paragraph.split("\n")) {
    if (line.startsWith("#")) continue;
    const match = /^([^\s:]+):[ \t]*(.*)$/.exec(line);
    if (match) {
      last = match[1].toLowerCase();
      fields[last] = match[2].trimEnd();
    } else if (last && /^[ \t]/.test(line)) {
      fields[last] += `\n${line.trimEnd()}`;
    }
  }
  return fields;
}

/**
 * The source that carries the distribution itself: its suite is the release's own name, its components hold main.
 * Third-party sources and the security archive do not match.
 * @param {AptSource[]} sources
 * @param {string} codename VERSION_CODENAME of os-release
 */
export function findMainSource(sources, codename) {
  const generic = ["stable", "testing", "unstable", "sid", "oldstable"];
  const carries = (source, suite) => source.suites.includes(suite) && source.components.includes("main");
  return (
    sources.find((source) => carries(source, codename)) ??
    sources.find((source) => generic.some((suite) => carries(source, suite)))
  );
}

/** A private deb822 source for one suite of the same mirror, checked by the same key. */
export function formatSource(source, suite) {
  const signed = source.signedBy ? `Signed-By: ${source.signedBy}\n` : "";
  const trusted = source.trusted ? "Trusted: yes\n" : "";
  const components = source.components.join(" ");
  return `Types: deb\nURIs: ${source.uris.join(" ")}\nSuites: ${suite}\nComponents: ${components}\n${signed}${trusted}`;
}

/** Values of `/etc/os-release`. */
export function parseOsRelease(text) {
  /** @type {Record<string, string>} */
  const values = {};
  for (const line of text.split("\n")) {
    const match = /^([A-Z_]+)=(.*)$/.exec(line.trim());
    if (match) values[match[1]] = match[2].replace(/^["']|["']$/g, "");
  }
  return values;
}

/**
 * The versions in `apt-cache madison`, newest first as apt lists them.
 * @returns {{ packageVersion: string, version: string }[]}
 */
export function parseMadison(text) {
  const versions = [];
  for (const line of text.split("\n")) {
    const packageVersion = line.split("|")[1]?.trim();
    const version = /^(?:\d+:)?(\d+\.\d+\.\d+)/.exec(packageVersion ?? "")?.[1];
    if (packageVersion && version) versions.push({ packageVersion, version });
  }
  return versions;
}

function words(text) {
  return (text ?? "").split(/\s+/).filter((word) => word !== "");
}
