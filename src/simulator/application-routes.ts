/**
 * Routes about the bot itself: gateway address, user, application, command registration.
 *
 * Documentation: Gateway ("Get Gateway Bot"), User, Application, Application Commands. Used by rest.ts.
 */
import { z } from "zod";
import { type CommandBody, commandBody, GLOBAL } from "./commands.js";
import { LIMITS } from "./limits.js";
import { ApiError, notFound, parseBody, type RestRequest, type Route } from "./rest-api.js";

const UNKNOWN_COMMAND = 10063;
const UNKNOWN_GUILD = 10004;

const commandBucket = { limit: 5, windowMs: 20_000 };
const readBucket = { limit: 10, windowMs: 1_000 };

const selfRoutes: Route[] = [
  {
    method: "GET",
    path: "/gateway",
    open: true,
    handle: ({ gatewayUrl }) => ({ status: 200, body: { url: gatewayUrl } }),
  },
  {
    method: "GET",
    path: "/gateway/bot",
    bucket: { limit: 2, windowMs: 1_000 },
    handle: ({ gatewayUrl, simulation }) => ({
      status: 200,
      body: {
        url: gatewayUrl,
        shards: simulation.options.shards,
        session_start_limit: simulation.identifyBudget.report(),
      },
    }),
  },
  {
    method: "GET",
    path: "/users/@me",
    bucket: readBucket,
    handle: ({ simulation }) => ({ status: 200, body: simulation.world.botUser }),
  },
  {
    method: "GET",
    path: "/users/:userId",
    bucket: readBucket,
    handle: ({ simulation: { world }, params }) => {
      if (params.userId === world.botUser.id) return { status: 200, body: world.botUser };
      const user = world.userIndex(params.userId!);
      if (user < 0) throw notFound(10013, "User");
      return { status: 200, body: world.user(user) };
    },
  },
  ...["/applications/@me", "/oauth2/applications/@me"].map(
    (path): Route => ({
      method: "GET",
      path,
      bucket: readBucket,
      handle: ({ simulation }) => ({ status: 200, body: application(simulation) }),
    }),
  ),
];

function application({ world }: RestRequest["simulation"]) {
  return {
    id: world.botUser.id,
    name: "simulated-bot",
    icon: null,
    description: "The application of the simulated bot",
    summary: "",
    bot: world.botUser,
    bot_public: true,
    bot_require_code_grant: false,
    owner: world.user(0),
    team: null,
    verify_key: "0".repeat(64),
    flags: 0,
    approximate_guild_count: world.size,
  };
}

/** Whether the path is about this application; which scope of commands it means. */
function scopeOf({ params, simulation }: RestRequest): string {
  if (params.applicationId !== simulation.options.applicationId) {
    throw new ApiError(403, 20012, "You are not authorized to perform this action on this application");
  }
  if (params.guildId === undefined) return GLOBAL;
  if (simulation.world.guildIndex(params.guildId) < 0) throw notFound(UNKNOWN_GUILD, "Guild");
  return params.guildId;
}

function commandRoutes(base: string): Route[] {
  return [
    {
      method: "GET",
      path: base,
      bucket: readBucket,
      handle: (request) => ({
        status: 200,
        body: request.simulation.commands.list(scopeOf(request)),
      }),
    },
    {
      method: "POST",
      path: base,
      bucket: commandBucket,
      handle: (request) => {
        const scope = scopeOf(request);
        const body = parseBody(commandBody, request.body);
        if (request.simulation.commands.list(scope).length >= LIMITS.commandsPerScope) {
          throw new ApiError(400, 30032, "Maximum number of application commands reached (100)");
        }
        const { command, created } = request.simulation.commands.upsert(scope, body);
        return { status: created ? 201 : 200, body: command };
      },
    },
    {
      method: "PUT",
      path: base,
      bucket: commandBucket,
      handle: (request) => {
        const bodies = parseBody(z.array(commandBody).max(LIMITS.commandsPerScope), request.body);
        refuseSameNames(bodies);
        return { status: 200, body: request.simulation.commands.overwrite(scopeOf(request), bodies) };
      },
    },
    {
      method: "GET",
      path: `${base}/:commandId`,
      bucket: readBucket,
      handle: (request) => ({ status: 200, body: findCommand(request) }),
    },
    {
      method: "PATCH",
      path: `${base}/:commandId`,
      bucket: commandBucket,
      handle: (request) => {
        const old = findCommand(request);
        const body = parseBody(commandBody, { ...old, ...(request.body as object) });
        return { status: 200, body: request.simulation.commands.replace(scopeOf(request), old.id, body) };
      },
    },
    {
      method: "DELETE",
      path: `${base}/:commandId`,
      bucket: commandBucket,
      handle: (request) => {
        request.simulation.commands.delete(scopeOf(request), findCommand(request).id);
        return { status: 204 };
      },
    },
  ];
}

function findCommand(request: RestRequest) {
  const command = request.simulation.commands.find(scopeOf(request), request.params.commandId!);
  if (command === undefined) throw notFound(UNKNOWN_COMMAND, "application command");
  return command;
}

function refuseSameNames(bodies: readonly CommandBody[]): void {
  const seen = new Set<string>();
  for (const [at, { name, type }] of bodies.entries()) {
    if (seen.has(`${type} ${name}`)) {
      const error = { code: "APPLICATION_COMMANDS_DUPLICATE_NAME", message: "Names must be unique" };
      throw new ApiError(400, 50035, "Invalid Form Body", { [at]: { name: { _errors: [error] } } });
    }
    seen.add(`${type} ${name}`);
  }
}

export const applicationRoutes: readonly Route[] = [
  ...selfRoutes,
  ...commandRoutes("/applications/:applicationId/commands"),
  ...commandRoutes("/applications/:applicationId/guilds/:guildId/commands"),
];
