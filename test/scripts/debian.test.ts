/**
 * The Debian step: apt's configuration in every spelling (pure), and, where there is an apt, the whole way against a
 * small repository on loopback.
 */
import { execFileSync } from "node:child_process";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { tempDir } from "../helpers/nats.js";
import { fakeBinary, loadScript, releasePage, resolveNatsServer, sha256 } from "./fake-release.js";

interface AptSource {
  uris: string[];
  suites: string[];
  components: string[];
  signedBy: string | undefined;
  trusted: boolean;
}

interface AptSources {
  parseListFile(text: string): AptSource[];
  parseSourcesFile(text: string): AptSource[];
  findMainSource(sources: AptSource[], codename: string): AptSource | undefined;
  formatSource(source: AptSource, suite: string): string;
  parseOsRelease(text: string): Record<string, string>;
  parseMadison(text: string): { packageVersion: string; version: string }[];
}

const apt = await loadScript<AptSources>("nats-server/apt-sources.mjs");

test("one-line sources: options, comments, source packages", (t) => {
  const text = [
    "# deb http://mirror.example/debian buster main",
    "deb http://mirror.example/debian bookworm main contrib # the mirror",
    "deb-src http://mirror.example/debian bookworm main",
    "deb [arch=amd64 signed-by=/usr/share/keyrings/k.gpg] https://third.example/apt bookworm main",
    "deb [trusted=yes] file:/srv/repo ./",
    "",
  ].join("\n");
  const plain = { signedBy: undefined, trusted: false };
  t.deepEqual(apt.parseListFile(text), [
    {
      uris: ["http://mirror.example/debian"],
      suites: ["bookworm"],
      components: ["main", "contrib"],
      ...plain,
    },
    {
      uris: ["https://third.example/apt"],
      suites: ["bookworm"],
      components: ["main"],
      signedBy: "/usr/share/keyrings/k.gpg",
      trusted: false,
    },
  ]);
});

const deb822 = [
  "Types: deb deb-src",
  "# a comment inside",
  "URIs: http://mirror.example/debian http://second.example/debian",
  "Suites: trixie trixie-updates",
  "Components: main",
  "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg",
  "",
  "Types: deb",
  "URIs: http://off.example/debian",
  "Suites: trixie",
  "Components: main",
  "Enabled: no",
  "",
  "types: deb",
  "uris: https://third.example/apt",
  "suites: nodistro",
  "components: main",
  "signed-by:",
  " -----BEGIN PGP PUBLIC KEY BLOCK-----",
  " .",
  " abcd",
  " -----END PGP PUBLIC KEY BLOCK-----",
  "",
].join("\n");

test("deb822 sources: several values, disabled ones, an embedded key", (t) => {
  const [mirror, third, ...rest] = apt.parseSourcesFile(deb822);
  t.deepEqual(rest, []);
  t.deepEqual(mirror?.uris, ["http://mirror.example/debian", "http://second.example/debian"]);
  t.deepEqual(mirror?.suites, ["trixie", "trixie-updates"]);
  t.regex(third?.signedBy ?? "", /^\n -----BEGIN[\s\S]*\n \.\n abcd\n -----END PGP PUBLIC KEY BLOCK-----$/);
  const written = apt.formatSource(third!, "forky");
  t.deepEqual(
    apt.parseSourcesFile(written),
    [{ ...third!, suites: ["forky"] }],
    "what is written reads the same",
  );
});

test("the distribution's own source is told from third parties and the security archive", (t) => {
  const security = "deb http://mirror.example/debian-security trixie-security main";
  const text = `deb http://third.example/apt stable contrib\n${security}\ndeb http://mirror.example/debian trixie main\n`;
  t.is(apt.findMainSource(apt.parseListFile(text), "trixie")?.uris[0], "http://mirror.example/debian");
  t.is(apt.findMainSource(apt.parseListFile(security), "trixie"), undefined);
  const testing = "deb http://mirror.example/debian testing main";
  t.is(apt.findMainSource(apt.parseListFile(testing), "forky")?.suites[0], "testing");
});

test("os-release and madison", (t) => {
  t.like(apt.parseOsRelease('NAME="Debian"\nID=debian\nVERSION_CODENAME=trixie\n'), {
    ID: "debian",
    VERSION_CODENAME: "trixie",
  });
  const madison =
    "nats-server | 2.10.27-1+b2 | http://m trixie/main amd64 Packages\nnats-server | 1:2.9.10-1 | x\n";
  t.deepEqual(apt.parseMadison(madison), [
    { packageVersion: "2.10.27-1+b2", version: "2.10.27" },
    { packageVersion: "1:2.9.10-1", version: "2.9.10" },
  ]);
});

function has(program: string): boolean {
  try {
    execFileSync(program, ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

const withApt = has("apt-get") && has("dpkg-deb") ? test : test.skip;

/** A repository with one suite, unsigned: the system's owner said so by Trusted. */
async function repository(t: ExecutionContext, version: string): Promise<Record<string, Buffer>> {
  const folder = await tempDir(t);
  const architecture = String(execFileSync("dpkg", ["--print-architecture"])).trim();
  const tree = join(folder, "tree");
  await mkdir(join(tree, "DEBIAN"), { recursive: true });
  await mkdir(join(tree, "usr/sbin"), { recursive: true });
  const control = `Package: nats-server\nVersion: ${version}-1\nArchitecture: ${architecture}\nMaintainer: nobody <n@example.org>\nDescription: a fake\n`;
  await writeFile(join(tree, "DEBIAN/control"), control);
  await writeFile(join(tree, "usr/sbin/nats-server"), fakeBinary(version), { mode: 0o755 });
  execFileSync("dpkg-deb", ["-b", "--root-owner-group", tree, join(folder, "package.deb")], {
    stdio: "ignore",
  });
  const deb = await readFile(join(folder, "package.deb"));
  const packages = Buffer.from(
    `${control}Filename: pool/package.deb\nSize: ${deb.length}\nSHA256: ${sha256(deb)}\n\n`,
  );
  const index = `main/binary-${architecture}/Packages`;
  const release = `Suite: forky\nCodename: forky\nArchitectures: ${architecture}\nComponents: main\nDate: ${new Date().toUTCString().replace("GMT", "UTC")}\nSHA256:\n ${sha256(packages)} ${packages.length} ${index}\n`;
  return { Release: Buffer.from(release), Packages: packages, "package.deb": deb };
}

async function etc(t: ExecutionContext, url: string): Promise<string> {
  const folder = await tempDir(t);
  await mkdir(join(folder, "apt/sources.list.d"), { recursive: true });
  await writeFile(join(folder, "os-release"), "ID=debian\nVERSION_CODENAME=bookworm\n");
  const source = `Types: deb\nURIs: ${url}/debian\nSuites: bookworm\nComponents: main\nTrusted: yes\n`;
  await writeFile(join(folder, "apt/sources.list.d/debian.sources"), source);
  return folder;
}

withApt("a package is fetched from a newer suite of the system's own mirror and unpacked", async (t) => {
  const page = await releasePage(t, await repository(t, "2.99.2"));
  const cacheDir = join(await tempDir(t), "cache");
  const reporter = { line() {}, progress: () => () => {} };
  const options = {
    cacheDir,
    reporter,
    env: { PATH: "" },
    release: false,
    debian: { etcDir: await etc(t, page.url) },
  };
  const found = await resolveNatsServer({ ...options, release: false });
  t.is(found.version, "2.99.2");
  t.regex(found.source, /Debian package 2\.99\.2-1 \(forky\)/);
  t.is(await readFile(found.path, "utf8"), fakeBinary("2.99.2"));
  t.deepEqual(await readdir(cacheDir), ["2.99.2"], "apt's private folders are gone");
});

withApt("a corrupt package, an old one and a dead mirror are reported and leave nothing", async (t) => {
  const files = await repository(t, "2.99.2");
  const reporter = { line() {}, progress: () => () => {} };
  const attempt = async (served: Record<string, Buffer>, close: boolean, version?: string) => {
    const page = await releasePage(t, served);
    if (close) page.close();
    const cacheDir = join(await tempDir(t), "cache");
    const debian = { etcDir: await etc(t, page.url) };
    const found = resolveNatsServer({
      cacheDir,
      reporter,
      env: { PATH: "" },
      release: false,
      debian,
      version,
    });
    const error = await t.throwsAsync<Error & { code?: string }>(found);
    t.is(error?.code, "NATS_SERVER_NOT_FOUND");
    t.deepEqual(await readdir(cacheDir), []);
    return error?.message ?? "";
  };
  const corrupt = Buffer.from(files["package.deb"]!);
  corrupt[corrupt.length >> 1]! ^= 1;
  t.regex(await attempt({ ...files, "package.deb": corrupt }, false), /forky: apt-get download failed/);
  t.regex(await attempt(files, true), /apt-get update failed/);
  t.regex(await attempt(files, false, "2.99.9"), /carries 2\.99\.2, not 2\.99\.9/);
  t.regex(await attempt(await repository(t, "2.9.10"), false), /carries 2\.9\.10, not >= 2\.10/);
});
