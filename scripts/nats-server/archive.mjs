/**
 * Owns reading one file out of a release archive (tar.gz or zip) held in memory, and the members of a Debian package.
 * The archives are some 6 MB and their checksum is verified before they get here, so a small reader that knows only
 * what such archives contain is enough, and no `tar` or `unzip` need be installed.
 * Used by release.mjs and debian.mjs.
 */
import { basename } from "node:path";
import { gunzipSync, inflateRawSync } from "node:zlib";

const TAR_BLOCK_BYTES = 512;
const UNPACKED_MAX_BYTES = 200 * 1024 * 1024;

/**
 * @param {Buffer} archive
 * @param {string} archiveFile its name decides the format
 * @param {string} wanted the file's name, in whatever folder it lies
 * @returns {Buffer}
 */
export function readFromArchive(archive, archiveFile, wanted) {
  const found = archiveFile.endsWith(".zip") ? readZip(archive, wanted) : readTar(gunzip(archive), wanted);
  if (!found) throw new Error(`${archiveFile} holds no ${wanted}`);
  return found;
}

function gunzip(archive) {
  return gunzipSync(archive, { maxOutputLength: UNPACKED_MAX_BYTES });
}

function readTar(tar, wanted) {
  for (let at = 0; at + TAR_BLOCK_BYTES <= tar.length; ) {
    const header = tar.subarray(at, at + TAR_BLOCK_BYTES);
    const name = text(header.subarray(0, 100));
    if (name === "") return undefined; // two empty blocks end a tar
    const sizeBytes = Number.parseInt(text(header.subarray(124, 136)).trim() || "0", 8);
    const start = at + TAR_BLOCK_BYTES;
    if (!Number.isInteger(sizeBytes) || start + sizeBytes > tar.length)
      throw new Error("the archive is cut off");
    const type = String.fromCharCode(header[156] ?? 0);
    if ((type === "0" || type === "\0") && basename(name) === wanted)
      return tar.subarray(start, start + sizeBytes);
    at = start + Math.ceil(sizeBytes / TAR_BLOCK_BYTES) * TAR_BLOCK_BYTES;
  }
  return undefined;
}

function readZip(zip, wanted) {
  const end = zip.lastIndexOf(Buffer.from("PK\x05\x06", "latin1"));
  if (end < 0) throw new Error("the archive is cut off");
  let at = zip.readUInt32LE(end + 16);
  for (let left = zip.readUInt16LE(end + 10); left > 0; left--) {
    const nameBytes = zip.readUInt16LE(at + 28);
    const name = zip.toString("utf8", at + 46, at + 46 + nameBytes);
    if (basename(name) === wanted) {
      const local = zip.readUInt32LE(at + 42);
      const start = local + 30 + zip.readUInt16LE(local + 26) + zip.readUInt16LE(local + 28);
      const packed = zip.subarray(start, start + zip.readUInt32LE(at + 20));
      const method = zip.readUInt16LE(at + 10);
      if (method === 0) return packed;
      if (method === 8) return inflateRawSync(packed, { maxOutputLength: UNPACKED_MAX_BYTES });
      throw new Error(`the archive packs ${name} by method ${method}, which is not known here`);
    }
    at += 46 + nameBytes + zip.readUInt16LE(at + 30) + zip.readUInt16LE(at + 32);
  }
  return undefined;
}

/**
 * The members of a Debian package (an `ar` archive): debian-binary, control.tar.*, data.tar.*.
 * @param {Buffer} archive
 * @returns {{ name: string, content: Buffer }[]}
 */
export function readAr(archive) {
  if (archive.toString("latin1", 0, 8) !== "!<arch>\n") throw new Error("not a Debian package");
  const members = [];
  for (let at = 8; at + 60 <= archive.length; ) {
    const name = archive
      .toString("latin1", at, at + 16)
      .trim()
      .replace(/\/$/, "");
    const sizeBytes = Number(archive.toString("latin1", at + 48, at + 58).trim());
    if (!Number.isInteger(sizeBytes) || at + 60 + sizeBytes > archive.length)
      throw new Error("the package is cut off");
    members.push({ name, content: archive.subarray(at + 60, at + 60 + sizeBytes) });
    at += 60 + sizeBytes + (sizeBytes % 2);
  }
  return members;
}

function text(field) {
  const end = field.indexOf(0);
  return field.toString("utf8", 0, end < 0 ? field.length : end);
}
