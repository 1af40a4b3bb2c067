/**
 * Owns the step "Debian package": fetches nats-server by apt into private folders and takes the binary out, without
 * root and without touching the system's lists, cache or configuration.
 * Trust comes from apt itself: it checks the suite's signature with the keyring the system's own source names, and
 * from there every hash down to the package. A system older than the package it needs takes a newer suite of the same
 * mirror: the program links nothing beyond the C library, and it is run once before it is used.
 * Used by nats-server.mjs; the parsing is in apt-sources.mjs.
 */
import { execFile, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import {
  findMainSource,
  formatSource,
  parseListFile,
  parseMadison,
  parseOsRelease,
  parseSourcesFile,
} from "./apt-sources.mjs";
import { readAr } from "./archive.mjs";
import { isNewEnough } from "./versions.mjs";

const run = promisify(execFile);

/** Suites that carry a nats-server new enough, newest first; on a derivative only its own suites are asked. */
const DEBIAN_SUITES = ["forky", "trixie"];
const APT_TOTAL_TIMEOUT_MS = 3 * 60_000;
/** For connecting and for each silence of the mirror. */
const APT_SILENCE_TIMEOUT_S = 5;

/** Whether this machine has an apt at all. */
export async function hasApt() {
  return await run("apt-get", ["--version"]).then(
    () => true,
    () => false,
  );
}

/**
 * @param {{ version?: string, cacheDir: string, etcDir?: string }} options version: exactly this one
 * @param {import("./progress.mjs").Reporter} reporter
 * @returns {Promise<{ binary: Buffer, version: string, source: string }>}
 */
export async function fetchDebian({ version, cacheDir, etcDir = "/etc" }, reporter) {
  const { source, suites } = await chooseSuites(etcDir);
  await mkdir(cacheDir, { recursive: true });
  const folder = await mkdtemp(join(cacheDir, ".tmp-apt-"));
  const failures = [];
  try {
    for (const suite of suites) {
      reporter.line(`nats-server: asking the Debian mirror ${source.uris[0]} (${suite}) for its package`);
      try {
        return await fetchFromSuite(join(folder, suite), source, suite, version, reporter);
      } catch (error) {
        failures.push(`${suite}: ${error.message}`);
      }
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  throw new Error(failures.join("; "));
}

async function fetchFromSuite(folder, source, suite, wanted, reporter) {
  const environment = await preparePrivateApt(folder, source, suite);
  await apt(["update"], environment, folder, reporter.progress(`package list of ${suite}`));
  const { stdout } = await run("apt-cache", ["madison", "nats-server"], { env: environment });
  const candidates = parseMadison(stdout).filter(({ version }) => isNewEnough(version));
  const chosen = wanted ? candidates.find(({ version }) => version === wanted) : candidates[0];
  if (!chosen) {
    throw new Error(
      `carries ${parseMadison(stdout)[0]?.version ?? "no nats-server"}, not ${wanted ?? ">= 2.10"}`,
    );
  }
  reporter.line(
    `nats-server ${chosen.version}: downloading the package ${chosen.packageVersion} of ${suite}`,
  );
  const download = ["download", `nats-server=${chosen.packageVersion}`];
  await apt(download, environment, folder, reporter.progress("package"));
  const file = (await readdir(folder)).find((name) => name.endsWith(".deb"));
  if (!file) throw new Error("apt-get download left no package");
  const binary = await unpack(folder, file);
  return { binary, version: chosen.version, source: `Debian package ${chosen.packageVersion} (${suite})` };
}

/**
 * An apt that owns all its folders. The system's own configuration is not loaded (its hooks would run, its pins apply);
 * what concerns fetching, a proxy above all, is carried over.
 */
async function preparePrivateApt(folder, source, suite) {
  for (const name of ["lists/partial", "cache/archives/partial", "sources"]) {
    await mkdir(join(folder, name), { recursive: true });
  }
  await writeFile(join(folder, "status"), "");
  await writeFile(join(folder, "sources", "mirror.sources"), formatSource(source, suite));
  const { stdout } = await run("apt-config", ["dump"]);
  const carried = stdout
    .split("\n")
    .filter((line) => /^Acquire::(?!IndexTargets|GzipIndexes|Languages)/.test(line));
  const own = [
    `Dir::Etc::main "/dev/null";`,
    `Dir::Etc::parts "/dev/null";`,
    `Dir::Etc::sourcelist "/dev/null";`,
    `Dir::Etc::sourceparts "${folder}/sources/";`,
    `Dir::Etc::preferences "/dev/null";`,
    `Dir::Etc::preferencesparts "/dev/null";`,
    `Dir::State "${folder}";`,
    `Dir::State::lists "${folder}/lists/";`,
    `Dir::State::status "${folder}/status";`,
    `Dir::Cache "${folder}/cache/";`,
    `Acquire::Languages "none";`,
    `Acquire::Retries "1";`,
    `Acquire::http::Timeout "${APT_SILENCE_TIMEOUT_S}";`,
    `Acquire::https::Timeout "${APT_SILENCE_TIMEOUT_S}";`,
    // As root apt would drop to a user who may not be allowed into the project's folder.
    `APT::Sandbox::User "root";`,
    `APT::Update::Error-Mode "any";`,
  ];
  await writeFile(join(folder, "apt.conf"), `${[...carried, ...own].join("\n")}\n`);
  return { ...process.env, APT_CONFIG: join(folder, "apt.conf"), LC_ALL: "C" };
}

/** Runs apt-get, which reports its progress as `dlstatus:item:percent:text` on descriptor 3. */
function apt(args, env, cwd, onProgress) {
  return new Promise((resolve, reject) => {
    const child = spawn("apt-get", ["-q", "-o", "APT::Status-Fd=3", ...args], {
      env,
      cwd,
      stdio: ["ignore", "ignore", "pipe", "pipe"],
      timeout: APT_TOTAL_TIMEOUT_MS,
    });
    let errors = "";
    child.stderr.on("data", (piece) => {
      errors = (errors + piece).slice(-2_000);
    });
    child.stdio[3].on("data", (piece) => {
      const percent = /dlstatus:\d+:([\d.]+):[^\n]*\n?$/.exec(String(piece))?.[1];
      if (percent) onProgress(Number(percent) / 100);
    });
    child.on("error", reject);
    child.on("close", (code, signal) => {
      if (code === 0) resolve();
      else reject(new Error(`apt-get ${args[0]} failed: ${lastError(errors) ?? `exit ${code ?? signal}`}`));
    });
  });
}

function lastError(errors) {
  return errors
    .split("\n")
    .filter((line) => /^[EW]:/.test(line))
    .at(-1)
    ?.slice(3);
}

/** By dpkg-deb; a system stripped of it still has a tar, and the package is an `ar` around one. */
async function unpack(folder, file) {
  const target = join(folder, "unpacked");
  await mkdir(target);
  try {
    await run("dpkg-deb", ["-x", join(folder, file), target]);
  } catch (error) {
    if (error.code !== "ENOENT")
      throw new Error(`the package does not unpack: ${error.message}`, { cause: error });
    const data = readAr(await readFile(join(folder, file))).find(({ name }) => name.startsWith("data.tar"));
    if (!data) throw new Error("the package holds no data");
    await writeFile(join(folder, data.name), data.content);
    await run("tar", ["-xf", join(folder, data.name), "-C", target]);
  }
  for (const place of ["usr/sbin", "usr/bin"]) {
    const path = join(target, place, "nats-server");
    if (existsSync(path)) return await readFile(path);
  }
  throw new Error("the package holds no nats-server");
}

/** Which mirror and which of its suites, from the system's own sources. */
export async function chooseSuites(etcDir) {
  const release = parseOsRelease(await readFile(join(etcDir, "os-release"), "utf8").catch(() => ""));
  const codename = release.VERSION_CODENAME ?? "";
  const source = findMainSource(await readSources(join(etcDir, "apt")), codename);
  if (!source) throw new Error(`no package source for ${codename || "this system"} in ${etcDir}/apt`);
  const own = source.suites.filter((suite) => !/-(updates|security|backports|proposed)/.test(suite));
  const suites = release.ID === "debian" ? [...DEBIAN_SUITES, ...own] : own;
  return { source, suites: [...new Set(suites)] };
}

async function readSources(aptDir) {
  const sources = parseListFile(await readFile(join(aptDir, "sources.list"), "utf8").catch(() => ""));
  const parts = join(aptDir, "sources.list.d");
  for (const name of (await readdir(parts).catch(() => [])).sort()) {
    const parse = name.endsWith(".sources")
      ? parseSourcesFile
      : name.endsWith(".list")
        ? parseListFile
        : undefined;
    if (parse) sources.push(...parse(await readFile(join(parts, name), "utf8")));
  }
  return sources;
}
