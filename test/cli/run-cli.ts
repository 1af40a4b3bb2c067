/** Owns running the command line as people do: a process of its own, its output and exit code kept. */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

const cliPath = fileURLToPath(new URL("../../src/cli.js", import.meta.url));
/** Long enough for a loaded machine; a command that should end at once and does not is a failure. */
const timeoutMs = 60_000;

export interface CliResult {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** What tests run with: nothing of the surrounding shell's own configuration. */
function cleanEnv(extra: Record<string, string>): NodeJS.ProcessEnv {
  const env: NodeJS.ProcessEnv = { ...extra };
  for (const [name, value] of Object.entries(process.env)) {
    if (!/^(GUILDSTREAM_|DISCORD_|NATS_URL)/.test(name) && !(name in env)) env[name] = value;
  }
  return env;
}

/** A file's tests run at the same time; this many processes do. */
const atATime = 2;
const waiting: (() => void)[] = [];
let running = 0;

export async function runCli(
  args: readonly string[],
  options: { env?: Record<string, string>; cwd?: string } = {},
): Promise<CliResult> {
  if (running >= atATime) await new Promise<void>((resolve) => waiting.push(resolve));
  running += 1;
  try {
    return await spawnCli(args, options);
  } finally {
    running -= 1;
    waiting.shift()?.();
  }
}

export interface RunningCli {
  pid: number;
  kill(signal: NodeJS.Signals): void;
  /** Resolves once the text has come on stderr; rejects if the process ends before. */
  said(text: RegExp): Promise<void>;
  /** The same for stdout. */
  printed(text: RegExp): Promise<void>;
  /** Reads no further, as `head` does. */
  closeStdout(): void;
  result: Promise<CliResult>;
}

function spawnCli(
  args: readonly string[],
  options: { env?: Record<string, string>; cwd?: string },
): Promise<CliResult> {
  return startCli(args, options).result;
}

/** For commands that run until they are told to stop. */
export function startCli(
  args: readonly string[],
  options: { env?: Record<string, string>; cwd?: string } = {},
): RunningCli {
  const child = spawn(process.execPath, [cliPath, ...args], {
    env: cleanEnv(options.env ?? {}),
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    stdio: ["ignore", "pipe", "pipe"],
    timeout: timeoutMs,
    killSignal: "SIGKILL",
  });
  let stdout = "";
  let stderr = "";
  const listeners = new Set<() => void>();
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
    for (const listener of listeners) listener();
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
    for (const listener of listeners) listener();
  });
  const result = new Promise<CliResult>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => resolve({ code, stdout, stderr }));
  });
  const came = (text: RegExp, output: () => string): Promise<void> =>
    new Promise((resolve, reject) => {
      const listener = (): void => {
        if (!text.test(output())) return;
        listeners.delete(listener);
        resolve();
      };
      listeners.add(listener);
      listener();
      void result.then(() => reject(new Error(`it ended without saying ${text}:\n${stdout}${stderr}`)));
    });
  return {
    pid: child.pid!,
    kill: (signal) => void child.kill(signal),
    said: (text) => came(text, () => stderr),
    printed: (text) => came(text, () => stdout),
    closeStdout: () => void child.stdout.destroy(),
    result,
  };
}
