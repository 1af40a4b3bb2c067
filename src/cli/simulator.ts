/** Owns wiring the simulated Discord as a command. */
import { GuildstreamError, messageOf } from "../core/errors.js";
import { startSimulator } from "../simulator/index.js";
import { type Boot, simulatorToken } from "./common.js";
import type { Role } from "./lifetime.js";
import type { SimulatorOptions } from "./options.js";

export async function bootSimulator(
  options: SimulatorOptions,
  boot: Boot,
): Promise<Role & { apiUrl: string; token: string }> {
  const simulator = await startSimulator({
    token: simulatorToken,
    port: options.port,
    host: options.host,
    guilds: options.guilds,
    ratePerSecond: options.rate,
    seed: options.seed,
    maxConcurrency: options.maxConcurrency,
    paused: options.paused,
    ...(options.shards === "auto" ? {} : { shards: options.shards }),
  }).catch((cause: NodeJS.ErrnoException) => {
    throw new GuildstreamError("CONFIG_INVALID", `the simulator cannot start: ${messageOf(cause)}`, {
      cause,
      hint: cause.code === "EADDRINUSE" ? "choose another --port; 0 takes a free one" : "see --help",
    });
  });
  const { url, apiUrl, token } = simulator;
  boot.log.info(
    { event: "simulator_runs", url, guilds: options.guilds, seed: options.seed },
    "simulated Discord runs",
  );
  return { apiUrl, token, stop: () => simulator.close() };
}
