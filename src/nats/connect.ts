/**
 * Owns the connection to NATS: how it is made, what the server must offer, how its failures are named.
 *
 * Invariants:
 * - Once made it reconnects for ever (the client's default gives up after 10 tries); callers see waits, not ends.
 * - In a cluster it follows: the servers tell of each other, and one that dies or freezes is left for the next.
 * - A server that is too old, has no JetStream, or too small a max_payload is refused by name before any work.
 */
import { ErrorCode, type NatsConnection, type NatsError, connect as natsConnect } from "nats";
import { GuildstreamError, messageOf } from "../core/errors.js";
import { limits } from "../core/limits.js";
import { apiErrorCode, askPatiently, jetStreamUnavailable } from "./jetstream.js";
import { compareServerVersions } from "./server-version.js";

export type { NatsConnection } from "nats";

export interface ConnectOptions {
  url: string;
  /** Names the connection in the server's monitoring. */
  name: string;
  user?: string | undefined;
  password?: string | undefined;
  token?: string | undefined;
}

/** A URL, or several, without the credentials, for messages. */
export function redactUrl(url: string): string {
  return url.replace(/(^|,\s*|\/\/)[^@/,]*@/g, "$1***@");
}

/**
 * Connects and checks the server.
 * @throws GuildstreamError NATS_UNREACHABLE, NATS_AUTH, NATS_SERVER_TOO_OLD, NATS_NO_JETSTREAM, NATS_MAX_PAYLOAD
 */
export async function connectNats(options: ConnectOptions): Promise<NatsConnection> {
  const parts = splitCredentials(options);
  let connection: NatsConnection;
  try {
    connection = await natsConnect({
      servers: parts.servers,
      name: options.name,
      ...(parts.user === undefined ? {} : { user: parts.user, pass: parts.password ?? "" }),
      ...(options.token === undefined ? {} : { token: options.token }),
      timeout: limits.natsConnectTimeoutMs,
      maxReconnectAttempts: -1,
      reconnectTimeWait: limits.natsReconnectWaitMs,
      reconnectJitter: limits.natsReconnectWaitMs,
      pingInterval: limits.natsPingIntervalMs,
      maxPingOut: 2,
      waitOnFirstConnect: false,
      inboxPrefix: "_INBOX",
    });
  } catch (cause) {
    throw connectError(cause, redactUrl(options.url));
  }
  try {
    await checkServer(connection);
    return connection;
  } catch (error) {
    await connection.close();
    throw error;
  }
}

function splitCredentials(options: ConnectOptions): { servers: string[]; user?: string; password?: string } {
  let user = options.user;
  let password = options.password;
  const servers = options.url.split(",").map((text) => {
    const match = /^(?:([a-z+]+):\/\/)?(?:([^@/:]*)(?::([^@/]*))?@)?(.+)$/.exec(text.trim());
    if (match === null) {
      throw new GuildstreamError("CONFIG_INVALID", `not a NATS URL: ${redactUrl(text)}`, {
        hint: "use nats://host:4222, several separated by commas",
      });
    }
    if (match[2] !== undefined) {
      user ??= decodeURIComponent(match[2]);
      password ??= match[3] === undefined ? undefined : decodeURIComponent(match[3]);
    }
    return `${match[1] ?? "nats"}://${match[4]}`;
  });
  return {
    servers,
    ...(user === undefined ? {} : { user }),
    ...(password === undefined ? {} : { password }),
  };
}

function connectError(cause: unknown, url: string): GuildstreamError {
  const code = (cause as NatsError).code;
  if (code === ErrorCode.AuthorizationViolation || code === ErrorCode.AuthenticationExpired) {
    return new GuildstreamError("NATS_AUTH", `the NATS server at ${url} refused the credentials`, {
      cause,
      hint: "set --nats nats://user:password@host:port (or NATS_URL); users are in streams/nats-server.conf",
    });
  }
  return new GuildstreamError("NATS_UNREACHABLE", `no NATS server answers at ${url}: ${messageOf(cause)}`, {
    cause,
    hint: "start one (npm start runs its own), or point --nats / NATS_URL at it",
  });
}

async function checkServer(connection: NatsConnection): Promise<void> {
  const info = connection.info!;
  if (compareServerVersions(info.version, limits.natsServerMinVersion) < 0) {
    throw new GuildstreamError(
      "NATS_SERVER_TOO_OLD",
      `the NATS server is version ${info.version}; ${limits.natsServerMinVersion} or newer is needed`,
      { hint: "upgrade nats-server; older ones do not fence writers reliably" },
    );
  }
  if (info.max_payload < limits.maxPayloadMinBytes) {
    throw new GuildstreamError(
      "NATS_MAX_PAYLOAD",
      `the NATS server's max_payload is ${info.max_payload} bytes; at least ${limits.maxPayloadMinBytes} are needed`,
      { hint: "set max_payload: 8MB in the server's configuration (see streams/nats-server.conf)" },
    );
  }
  try {
    await askPatiently(connection, () =>
      connection.jetstreamManager({ timeout: limits.natsRequestTimeoutMs }),
    );
  } catch (cause) {
    if (apiErrorCode(cause) === jetStreamUnavailable || (cause as NatsError).code === ErrorCode.Timeout) {
      throw new GuildstreamError(
        "NATS_NO_JETSTREAM",
        "JetStream does not answer: the NATS cluster has no leader",
        {
          cause,
          hint: "more than half of the cluster's servers must run and reach each other",
        },
      );
    }
    throw new GuildstreamError("NATS_NO_JETSTREAM", "the NATS server has no JetStream for this account", {
      cause,
      hint: "start it with -js, or with a jetstream block (see streams/nats-server.conf)",
    });
  }
}

/** Calls back each time the connection has been made again. */
export function onReconnect(nc: NatsConnection, callback: () => void): void {
  onStatus(nc, "reconnect", callback);
}

/** Calls back each time the connection is lost. */
export function onDisconnect(nc: NatsConnection, callback: () => void): void {
  onStatus(nc, "disconnect", callback);
}

function onStatus(nc: NatsConnection, type: "reconnect" | "disconnect", callback: () => void): void {
  void (async () => {
    for await (const status of nc.status()) if (status.type === type) callback();
  })();
}
