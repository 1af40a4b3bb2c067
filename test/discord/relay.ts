/**
 * A way to the gateway that takes time: a TCP relay that passes every byte on after a delay, in both directions. On
 * loopback everything answers at once, and what waits for a round trip too many cannot be seen.
 */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import type { ExecutionContext } from "ava";

/** @returns the URL to use in place of the target's. */
export async function startRelay(t: ExecutionContext, target: number, delayMs: number): Promise<string> {
  const sockets = new Set<Socket>();
  const pass = (from: Socket, to: Socket) => {
    sockets.add(from);
    from.setNoDelay(true);
    from.on("data", (chunk) => void setTimeout(() => to.writable && to.write(chunk), delayMs));
    from.on("end", () => void setTimeout(() => to.end(), delayMs));
    from.on("error", () => to.destroy());
    from.on("close", () => sockets.delete(from));
  };
  const server = createServer({ allowHalfOpen: true }, (near) => {
    const far = connect({ port: target, host: "127.0.0.1", allowHalfOpen: true });
    pass(near, far);
    pass(far, near);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return `ws://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
