/**
 * The commands: parses, wires one role, minds its signals. Everything it does lives elsewhere. Loaded by cli.ts.
 * Each command loads its own role only: a database node needs no Discord client in memory. Exit codes: cli/report.ts.
 */
import { Command, CommanderError } from "commander";
import { GuildstreamError, messageOf } from "../core/errors.js";
import { type Boot, defaultId, readToken, version } from "./common.js";
import { isSupervised, type Role, runUntilStopped, stopSignal, tellSupervisor } from "./lifetime.js";
import { createLog } from "./log.js";
import {
  type CommonOptions,
  options as flag,
  type HotbootOptions,
  type SimulatorOptions,
  type StartOptions,
  type StatusOptions,
} from "./options.js";
import { errorBlock, exitCodeOf, exitCodes } from "./report.js";

const program = new Command("guildstream")
  .description("An event-sourced runtime, on NATS JetStream, for Discord bots too large for one process.")
  .version(version)
  .exitOverride()
  .showHelpAfterError("(--help lists the flags)")
  .configureHelp({ showGlobalOptions: true });

const tokenHelp = "\nThe bot's token comes from DISCORD_TOKEN (or --token-file); there is no flag for it.";

with_(
  program.command("start").description("run everything: NATS, simulated Discord, database nodes, workers"),
  [flag.guilds, flag.rate, flag.duration, flag.workers, flag.dbnodes, flag.seed, flag.reset],
  [flag.nats, flag.data, flag.discordApi, flag.tokenFile, flag.bot, flag.shards, flag.memoryMb],
)
  .addHelpText(
    "after",
    `${tokenHelp}\nWith a token it runs on real Discord, without one on the simulated one.`,
  )
  .action((options: StartOptions) => end(import("./start.js").then(({ start }) => start(options))));

with_(program.command("worker").description("run one worker: Discord's gateway, the bot, the guild log"), [
  flag.nats,
  flag.data,
  flag.discordApi,
  flag.tokenFile,
  flag.bot,
  flag.id,
  flag.shards,
  flag.replicas,
  flag.memoryMb,
  flag.temporary,
  flag.hotboot,
  flag.hotbootGc,
  flag.noLauncher,
])
  .addHelpText("after", tokenHelp)
  .action((options: CommonOptions) =>
    end(
      role(options, options.hotboot ?? options.id ?? defaultId("worker"), async (boot) =>
        (await import("./worker.js")).bootWorker(options, boot),
      ),
    ),
  );

with_(program.command("dbnode").description("run one database node: the guild log to disk"), [
  flag.nats,
  flag.data,
  flag.id,
  flag.replicas,
]).action((options: CommonOptions) =>
  end(
    role(options, options.id ?? defaultId("dbnode"), async (boot) =>
      (await import("./dbnode.js")).bootDbnode(options, boot),
    ),
  ),
);

with_(
  program
    .command("hotboot [worker]")
    .description("deploy: let a running worker hand everything to the code as it is on disk now"),
  [flag.nats, flag.dryRun, flag.abort],
).action((worker: string | undefined, options: HotbootOptions) =>
  end(import("./hotboot.js").then(({ hotboot }) => hotboot(worker, options))),
);

with_(program.command("simulator").description("run a simulated Discord: gateway and REST on one port"), [
  flag.guilds,
  flag.rate,
  flag.seed,
  flag.shards,
  flag.port,
  flag.host,
  flag.maxConcurrency,
  flag.paused,
]).action((options: SimulatorOptions) => end(simulator(options)));

with_(program.command("status").description("show the cluster: shards, members, the guild log, problems"), [
  flag.nats,
  flag.id,
  flag.replicas,
  flag.watch,
  flag.check,
]).action((options: StatusOptions) => end(import("./status.js").then(({ status }) => status(options))));

function with_(command: Command, ...groups: (() => ReturnType<typeof flag.nats>)[][]): Command {
  for (const option of [...groups.flat(), flag.logLevel, flag.json]) command.addOption(option());
  return command.allowExcessArguments(false);
}

/** Boots a role, says when it is ready, runs it until it is to stop. */
async function role(
  options: CommonOptions,
  name: string,
  boot: (boot: Boot) => Promise<Role>,
): Promise<number> {
  const log = createLog({
    level: options.logLevel,
    json: options.json,
    name,
    secrets: [options.tokenFile === undefined ? process.env.DISCORD_TOKEN : readToken(options)],
  });
  const stop = stopSignal((text) => log.info({ event: "stopping" }, text));
  const running = await boot({ log, stop });
  const url = (running as { apiUrl?: string }).apiUrl;
  tellSupervisor(url === undefined ? { type: "ready" } : { type: "ready", url });
  if (!stop.aborted) log.info({ event: "ready" }, "ready");
  await runUntilStopped(running, stop, (text) => log.info({ event: "hotboot" }, text));
  return exitCodes.ok;
}

function simulator(options: SimulatorOptions): Promise<number> {
  return role(options, "simulator", async (boot) => {
    const { bootSimulator } = await import("./simulator.js");
    const running = await bootSimulator(options, boot);
    if (!isSupervised) {
      const text = `DISCORD_API=${running.apiUrl} DISCORD_TOKEN=${running.token}`;
      const json = JSON.stringify({ api: running.apiUrl, token: running.token });
      process.stdout.write(`${options.json ? json : text}\n`);
    }
    return running;
  });
}

/** Turns how a command ended into the exit code, and into words if it ended badly. */
async function end(running: Promise<number>): Promise<void> {
  let code: number;
  try {
    code = await running;
  } catch (error) {
    if (error instanceof GuildstreamError) {
      tellSupervisor({ type: "error", code: error.code, message: error.message, hint: error.hint });
    } else {
      tellSupervisor({ type: "error", code: "BUG", message: messageOf(error) });
    }
    // A successor that was only to be tried has done what it was asked.
    const isWanted = error instanceof GuildstreamError && error.code === "HOTBOOT_DISMISSED";
    process.stderr.write(
      isWanted ? `${messageOf(error)}\n` : errorBlock(error, process.argv.includes("debug")),
    );
    code = isWanted ? exitCodes.ok : exitCodeOf(error);
  }
  // Written output first; then whatever handle somebody forgot must not keep the process.
  process.stdout.write("", () => process.stderr.write("", () => process.exit(code)));
}

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof CommanderError)) throw error;
  process.exitCode = error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
}
