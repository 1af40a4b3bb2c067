/**
 * A faithful local Discord: gateway v10 and REST on one port, seeded guilds and traffic, a ledger of
 * everything, and faults on demand. Usable on its own to test any bot: point its REST base at `apiUrl`.
 *
 * Invariant: nothing here imports from the rest of the project.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { Control } from "./control.js";
import { type Fault, Faults } from "./faults.js";
import { Gateway } from "./gateway.js";
import { sendJson } from "./http-body.js";
import { resolveOptions, type SimulatorOptions } from "./options.js";
import { type LedgerReport, Reports, type StatsReport } from "./reports.js";
import { Rest } from "./rest.js";
import { Simulation } from "./simulation.js";
import { Traffic } from "./traffic.js";

export type { Fault } from "./faults.js";
export type { GuildLedger, LedgerTotals } from "./ledger.js";
export type { SimulatorOptions } from "./options.js";
export type { InteractionReport, LedgerReport, StatsReport } from "./reports.js";

/** A running simulator. */
export interface Simulator {
  /** Where it listens, such as `http://127.0.0.1:40123`; /control is under it. */
  readonly url: string;
  /** The REST base for clients: `url` + `/api`. */
  readonly apiUrl: string;
  readonly port: number;
  readonly token: string;
  readonly seed: number;
  /** Ids of all guilds, in the order of the world (the first are the busiest). */
  readonly guildIds: readonly string[];
  /** What the bot must have seen: see ledger.ts for the rules. */
  ledger(): LedgerReport;
  stats(): StatsReport;
  /** Makes a fault happen; returns how many connections (guilds, requests) it hit. */
  fault(fault: Fault): number;
  /** Starts or stops the traffic, or changes its rate; what is absent stays. */
  setTraffic(change: { ratePerSecond?: number; running?: boolean }): void;
  /** Closes every connection and the port; resolves when the port is free. */
  close(): Promise<void>;
}

/**
 * Starts a simulator; resolves when it listens.
 *
 * @throws TypeError for wrong options, Error (EADDRINUSE and the like) if the port can not be had.
 */
export async function startSimulator(given: SimulatorOptions = {}): Promise<Simulator> {
  const options = resolveOptions(given);
  const simulation = new Simulation(options);
  const traffic = new Traffic(simulation);
  const gateway = new Gateway(simulation);
  const rest = new Rest(simulation);
  const reports = new Reports(simulation, traffic, gateway);
  const faults = new Faults(simulation, gateway, rest);
  const control = new Control(simulation, traffic, reports, faults);

  const http = createServer((request, response) => {
    answer(request, response, rest, control).catch((error: unknown) => {
      // A client that went away while sending is no bug; everything else here is.
      if (!request.destroyed || request.complete) reportBug(response, error);
    });
  });
  gateway.attach(http);
  await new Promise<void>((resolve, reject) => {
    http.once("error", reject);
    http.listen(options.port, options.host, () => {
      http.off("error", reject);
      resolve();
    });
  });
  const { port } = http.address() as AddressInfo;
  const authority = `${reachable(options.host)}:${port}`;
  if (!options.paused) traffic.start();

  return {
    url: `http://${authority}`,
    apiUrl: `http://${authority}/api`,
    port,
    token: options.token,
    seed: options.seed,
    guildIds: Array.from({ length: options.guilds }, (_, guild) => simulation.world.guildId(guild)),
    ledger: () => reports.ledger(),
    stats: () => reports.stats(),
    fault: (fault) => faults.inject(fault),
    setTraffic: ({ ratePerSecond, running }) => {
      if (ratePerSecond !== undefined) traffic.setRate(ratePerSecond);
      if (running === true) traffic.start();
      if (running === false) traffic.stop();
    },
    close: async () => {
      traffic.stop();
      reports.stop();
      simulation.interactions.stop();
      gateway.close();
      await new Promise<void>((resolve) => {
        http.close(() => resolve());
        http.closeAllConnections();
      });
    },
  };
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  rest: Rest,
  control: Control,
): Promise<void> {
  const url = new URL(request.url ?? "/", "http://simulator");
  if (url.pathname.startsWith("/api/")) await rest.handle(request, response, url);
  else if (url.pathname.startsWith("/control/")) await control.handle(request, response, url);
  else sendJson(response, 404, { message: "404: Not Found; there are /api/v10 and /control", code: 0 });
}

function reportBug(response: ServerResponse, error: unknown): void {
  process.emitWarning(error instanceof Error ? error : new Error(String(error)), "SimulatorBug");
  if (!response.headersSent) sendJson(response, 500, { message: "500: Internal Server Error", code: 0 });
}

/** The address a client on this machine uses for what the server listens on. */
function reachable(host: string): string {
  if (host === "0.0.0.0" || host === "::") return "127.0.0.1";
  return host.includes(":") ? `[${host}]` : host;
}
