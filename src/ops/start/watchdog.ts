/**
 * Owns the end of the embedded nats-server when this process is killed without a chance to stop it.
 *
 * The roles notice by themselves (their channel closes) and need the server to drain. So a small shell process holds
 * a pipe from here; once that closes it waits until the roles it was told of are gone, then ends the server.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { limits } from "../../core/limits.js";

const script = `
told=$(cat)
tries=0
while [ "$tries" -lt ${limits.ops.watchdogPatienceS} ]; do
  alive=; server=
  for entry in $told; do
    case $entry in
      server:*) server=\${entry#server:} ;;
      role:*) kill -0 "\${entry#role:}" 2>/dev/null && alive=1 ;;
    esac
  done
  [ -z "$alive" ] && break
  tries=$((tries + 1))
  sleep 1
done
[ -n "$server" ] && kill -TERM "$server" 2>/dev/null
exit 0`;

export class Watchdog {
  readonly #shell: ChildProcess | undefined;

  constructor() {
    if (process.platform === "win32") return;
    this.#shell = spawn("/bin/sh", ["-c", script], { detached: true, stdio: ["pipe", "ignore", "ignore"] });
    this.#shell.on("error", () => {}); // Without a shell the next start on the folder ends the server.
    this.#shell.stdin!.on("error", () => {});
    this.#shell.unref();
  }

  /** The last server told of is the one that is ended. */
  tell(kind: "server" | "role", pid: number): void {
    this.#shell?.stdin?.write(`${kind}:${pid}\n`);
  }

  /** Everything has been stopped in order: nothing is left to do. */
  dismiss(): void {
    this.#shell?.kill("SIGKILL");
  }
}
