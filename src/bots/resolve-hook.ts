/**
 * Module resolution for bots' files (Node's documentation, "Customization Hooks"); runs in Node's loader thread.
 * Registered by load.ts.
 */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

interface Resolved {
  url: string;
  format?: string | null | undefined;
  shortCircuit?: boolean;
}

type Next = (specifier: string, context: unknown) => Promise<Resolved>;

/**
 * Two things a lone file would otherwise need a package.json for: `guildstream` is this package when there is none
 * beside the file, and TypeScript is an ES module.
 */
export async function resolve(specifier: string, context: unknown, next: Next): Promise<Resolved> {
  if (specifier === "guildstream") {
    try {
      return await next(specifier, context);
    } catch {
      return { url: new URL("../index.js", import.meta.url).href, format: "module", shortCircuit: true };
    }
  }
  const resolved = await next(specifier, context);
  const path = /^file:[^?]*\.ts(\?|$)/.test(resolved.url) ? fileURLToPath(resolved.url) : undefined;
  if (path !== undefined && isLone(path)) resolved.format = "module";
  return resolved;
}

function isLone(path: string): boolean {
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    if (existsSync(join(folder, "package.json"))) return false;
    if (folder === dirname(folder)) return true;
  }
}
