/**
 * Owns a JetStream cluster in a test: real nats-servers on loopback, joined by routes, each with a store of its own.
 * A member killed stays a member; `restart` brings it back with its store, as on a machine that booted again.
 */
import type { ExecutionContext } from "ava";
import { connect, type NatsConnection } from "nats";
import type { EmbeddedServer } from "../../src/nats/embedded.js";
import { freePort } from "../../src/nats/embedded-probe.js";
import { newestNatsVersion, withServer } from "./nats.js";
import { until } from "./until.js";

const host = "127.0.0.1";

export class NatsCluster {
  constructor(
    readonly servers: readonly EmbeddedServer[],
    /** Asks the survivors; it knows them all. */
    readonly nc: NatsConnection,
  ) {}

  /** All of them, as NATS_URL takes them. */
  get url(): string {
    return this.servers.map((server) => server.url).join(",");
  }

  /** The server that leads the stream now; undefined while none does. */
  async leaderOf(stream: string): Promise<EmbeddedServer | undefined> {
    try {
      const info = await this.nc.request(`$JS.API.STREAM.INFO.${stream}`, "", { timeout: 1_000 });
      const { cluster } = info.json<{ cluster?: { leader?: string } }>();
      return this.servers.find((server) => server.name === cluster?.leader);
    } catch {
      return undefined; // Nobody answers: no leader yet.
    }
  }

  /** Every replica of every stream has what its leader has. */
  async current(): Promise<void> {
    await until("every replica current", async () => {
      try {
        const reply = await this.nc.request("$JS.API.STREAM.LIST", "", { timeout: 1_000 });
        const { streams } = reply.json<{ streams?: Listed[] }>();
        return (streams ?? []).every(
          ({ cluster }) =>
            cluster.leader !== undefined && (cluster.replicas ?? []).every((peer) => peer.current),
        );
      } catch {
        return false;
      }
    });
  }
}

interface Listed {
  cluster: { leader?: string; replicas?: { current: boolean }[] };
}

export interface NatsClusterOptions {
  /** One a server, in this order; default: three of the newest. */
  versions?: readonly string[];
  /** Lines in nats-server's own configuration format, for each. */
  extraConfig?: string;
  /** Who the helper connects as, where the configuration has users. */
  user?: string;
  pass?: string;
}

/** Starts the servers and waits until they have a leader among them, so that streams can be created. */
export async function withNatsCluster(
  t: ExecutionContext,
  options: NatsClusterOptions = {},
): Promise<NatsCluster> {
  const { versions = Array<string>(3).fill(newestNatsVersion), extraConfig = "", user, pass } = options;
  const ports = new Set<number>();
  while (ports.size < versions.length) ports.add(await freePort(host));
  const routes = [...ports].map((port) => `"nats://${host}:${port}"`).join(", ");
  const servers = await Promise.all(
    [...ports].map((port, index) => {
      const cluster = `cluster { name: test, listen: "${host}:${port}", routes: [${routes}] }`;
      return withServer(t, { version: versions[index]!, extraConfig: `${cluster}\n${extraConfig}` });
    }),
  );
  const nc = await connect({
    servers: servers.map((server) => server.url),
    ...(user === undefined || pass === undefined ? {} : { user, pass }),
    maxReconnectAttempts: -1,
    reconnectTimeWait: 50,
    // A server that a test has frozen is left soon.
    pingInterval: 1_000,
    timeout: 1_000,
  });
  t.teardown(() => nc.close());
  await until("a leader that knows every server", async () => {
    const reply = await nc.request("$JS.API.INFO", "", { timeout: 500 }).catch(() => undefined);
    return reply !== undefined && reply.json<{ error?: object }>().error === undefined;
  });
  return new NatsCluster(servers, nc);
}
