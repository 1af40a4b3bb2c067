/**
 * Reading request bodies (JSON, or a form with files as Discord takes uploads) and sending JSON.
 *
 * Bodies over the bound are refused with 413 and their rest is thrown away. API Reference, "Uploading
 * Files". Used by rest.ts and control.ts.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { ApiError, type UploadedFile } from "./rest-api.js";

export interface RequestBody {
  readonly json: unknown;
  readonly files: readonly UploadedFile[];
}

/**
 * Reads a whole body.
 *
 * @throws ApiError 413 beyond `maxBytes`, 400 with code 50109 for what is not JSON.
 */
export async function readBody(request: IncomingMessage, maxBytes: number): Promise<RequestBody> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes <= maxBytes) chunks.push(chunk);
  }
  if (bytes > maxBytes) throw new ApiError(413, 40005, "Request entity too large");
  if (bytes === 0) return { json: undefined, files: [] };
  const raw = Buffer.concat(chunks);
  const type = request.headers["content-type"] ?? "";
  if (type.startsWith("multipart/form-data")) return await readForm(raw, type);
  return { json: parseJson(raw.toString()), files: [] };
}

/** Sends a reply; without a body it has none, as 204 demands. */
export function sendJson(response: ServerResponse, status: number, body?: unknown): void {
  if (body === undefined) {
    response.writeHead(status).end();
    return;
  }
  const text = JSON.stringify(body);
  response
    .writeHead(status, { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(text) })
    .end(text);
}

async function readForm(raw: Buffer, type: string): Promise<RequestBody> {
  let form: FormData;
  try {
    form = await new Response(raw, { headers: { "content-type": type } }).formData();
  } catch {
    throw new ApiError(400, 50035, "Invalid Form Body");
  }
  const files: UploadedFile[] = [];
  const fields: Record<string, unknown> = {};
  let json: unknown;
  for (const [name, value] of form) {
    if (typeof value !== "string") {
      files.push({ name: value.name, bytes: value.size, contentType: value.type });
    } else if (name === "payload_json") {
      json = parseJson(value);
    } else {
      fields[name] = value;
    }
  }
  return { json: json ?? fields, files };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new ApiError(400, 50109, "The request body contains invalid JSON.");
  }
}
