/**
 * Owns a release page on loopback with archives of a fake nats-server, and the ways in which it can fail.
 * Used by the resolver's tests; the real internet is never asked.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { deflateRawSync } from "node:zlib";
import type { ExecutionContext } from "ava";
import type * as resolver from "../../scripts/nats-server.mjs";
import { tempDir } from "../helpers/nats.js";

export type Answer = (response: ServerResponse, content: Buffer) => void;

export const platform = "linux-amd64";

/** A module of scripts/, which is not compiled; ava runs in the package's root. */
export async function loadScript<Module>(path: string): Promise<Module> {
  return (await import(pathToFileURL(join(process.cwd(), "scripts", path)).href)) as Module;
}

export const { resolveNatsServer } = await loadScript<typeof resolver>("nats-server.mjs");

export function sha256(content: Buffer): string {
  return createHash("sha256").update(content).digest("hex");
}

/** A program that says it is nats-server of this version. */
export function fakeBinary(version: string): string {
  return `#!/bin/sh\necho "nats-server: v${version}"\n`;
}

/** A tar.gz laid out as the official ones are. */
export async function fakeArchive(
  t: ExecutionContext,
  version: string,
  content = fakeBinary(version),
): Promise<Buffer> {
  const folder = await tempDir(t);
  const name = `nats-server-v${version}-${platform}`;
  await mkdir(join(folder, name));
  await writeFile(join(folder, name, "LICENSE"), "a licence\n");
  await writeFile(join(folder, name, "nats-server"), content, { mode: 0o755 });
  execFileSync("tar", ["-czf", "archive", name], { cwd: folder });
  return await readFile(join(folder, "archive"));
}

/** A zip of one deflated file, as Windows gets it. */
export function fakeZip(name: string, content: Buffer): Buffer {
  const packed = deflateRawSync(content);
  const sizes = Buffer.alloc(8);
  sizes.writeUInt32LE(packed.length, 0);
  sizes.writeUInt32LE(content.length, 4);
  const nameLength = Buffer.from([name.length, 0]);
  // Version, flags, method 8, time, date, checksum (not read here).
  const common = Buffer.concat([
    Buffer.from([20, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    sizes,
    nameLength,
    Buffer.alloc(2),
  ]);
  const local = Buffer.concat([Buffer.from("PK\x03\x04"), common, Buffer.from(name), packed]);
  const entry = Buffer.concat([
    Buffer.from("PK\x01\x02\x14\x00"),
    common,
    Buffer.alloc(14),
    Buffer.from(name),
  ]);
  const end = Buffer.alloc(22);
  end.write("PK\x05\x06", "latin1");
  end.writeUInt16LE(1, 8);
  end.writeUInt16LE(1, 10);
  end.writeUInt32LE(entry.length, 12);
  end.writeUInt32LE(local.length, 16);
  return Buffer.concat([local, entry, end]);
}

export interface FakeReleasePage {
  url: string;
  /** Paths asked for so far. */
  requests: string[];
  close(): void;
}

/** Serves `files`; `answers` replaces how one of them is sent. */
export async function releasePage(
  t: ExecutionContext,
  files: Record<string, Buffer>,
  answers: Record<string, Answer> = {},
): Promise<FakeReleasePage> {
  const requests: string[] = [];
  const server = createServer((request, response) => {
    const path = request.url ?? "";
    requests.push(path);
    const name = path.split("/").at(-1) ?? "";
    const content = files[name];
    if (answers[name]) answers[name](response, content ?? Buffer.alloc(0));
    else if (content) response.end(content);
    else response.writeHead(404).end();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const close = () => {
    server.closeAllConnections();
    server.close();
  };
  t.teardown(close);
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, requests, close };
}
