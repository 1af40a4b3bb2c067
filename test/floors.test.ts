/**
 * Keeps the floors honest: who may import whom (adapters import core; roles import cluster and core and never each
 * other; only one folder knows NATS, one Discord, one the disk).
 */
import { readdirSync, readFileSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import test from "ava";

const sources = resolve("src");

/** What each floor may import from the others; its own files always. */
const mayImport: Record<string, readonly string[]> = {
  core: [],
  nats: ["core"],
  disk: ["core"],
  discord: ["core"],
  cluster: ["core", "nats"],
  worker: ["core", "nats", "cluster", "discord"],
  dbnode: ["core", "nats", "cluster", "disk"],
  ops: ["core", "nats", "cluster", "simulator"],
  simulator: [],
  bots: ["core", "index.ts"],
  "index.ts": ["core"],
};

const packageOwners: Record<string, string> = {
  nats: "nats",
  lmdb: "disk",
  "@discordjs/ws": "discord",
  "@discordjs/rest": "discord",
};

interface Import {
  file: string;
  floor: string;
  target: string;
}

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return filesBelow(path);
    return path.endsWith(".ts") ? [path] : [];
  });
}

function importsOf(path: string): Import[] {
  const file = relative(sources, path);
  const floor = file.split("/")[0]!;
  const text = readFileSync(path, "utf8");
  const found = text.matchAll(/(?:from|import)\s*\(?\s*"([^"]+)"/g);
  return [...found].map((match) => {
    const target = match[1]!;
    if (!target.startsWith(".")) return { file, floor, target };
    const reached = relative(sources, resolve(join(path, ".."), target)).replace(/\.js$/, ".ts");
    return { file, floor, target: `src:${reached}` };
  });
}

const all = filesBelow(sources).flatMap(importsOf);

test("every floor imports only the floors below it", (t) => {
  t.true(all.length > 100);
  const wrong = all.filter(({ floor, target }) => {
    if (!target.startsWith("src:") || floor === "cli.ts" || floor === "cli") return false;
    const reached = target.slice(4).split("/")[0]!;
    if (reached === "..") return false;
    return reached !== floor && !(mayImport[floor] ?? []).includes(reached);
  });
  t.deepEqual(
    wrong.map(({ file, target }) => `${file} imports ${target.slice(4)}`),
    [],
  );
});

test("one folder knows NATS, one the disk, one Discord's libraries", (t) => {
  const wrong = all.filter(({ floor, target }) => {
    const owner = packageOwners[target];
    return owner !== undefined && owner !== floor;
  });
  t.deepEqual(
    wrong.map(({ file, target }) => `${file} imports ${target}`),
    [],
  );
});

test("the launcher loads no package, and few files of ours", (t) => {
  const loaded = new Set<string>();
  const load = (file: string): void => {
    if (loaded.has(file)) return;
    loaded.add(file);
    if (!file.startsWith("src:")) return;
    const path = join(sources, file.slice(4));
    // What is imported when the file is loaded: neither types nor import().
    const text = readFileSync(path, "utf8").replaceAll(/import type [^;]*;/g, "");
    for (const [, target] of text.matchAll(/from "([^"]+)"/g)) {
      load(
        target!.startsWith(".")
          ? `src:${relative(sources, resolve(join(path, ".."), target!)).replace(/\.js$/, ".ts")}`
          : target!,
      );
    }
  };
  load("src:cli.ts");
  load("src:cli/launcher.ts");
  const packages = [...loaded].filter((file) => !file.startsWith("src:") && !file.startsWith("node:"));
  t.deepEqual(packages, []);
  t.true(loaded.size < 20, [...loaded].join(", "));
});
