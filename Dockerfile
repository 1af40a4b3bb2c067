# guildstream, any role: docker run IMAGE worker|dbnode|simulator|status --help
# The nats-server is not in it; see docker-compose.yml.

FROM node:22-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# Not `npm ci`: it refuses a lock that lacks the optional native packages of this system; this takes the locked
# versions and adds what is missing.
RUN npm install --no-save --include=dev
COPY tsconfig.json ./
COPY scripts ./scripts
COPY src ./src
RUN npx tsc -p tsconfig.json --incremental false --sourceMap false \
  && npm prune --omit=dev

FROM node:22-bookworm-slim
WORKDIR /app
ENV NODE_ENV=production GUILDSTREAM_DATA=/data
# A new named volume mounted here takes over the owner.
RUN install -d -o node -g node /data
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/build/src ./build/src
COPY package.json ./
COPY streams ./streams
COPY scripts/lock.mjs scripts/nats-server.mjs ./scripts/
COPY scripts/nats-server ./scripts/nats-server
USER node
STOPSIGNAL SIGTERM
# For workers and database nodes: 0 once the member named by GUILDSTREAM_ID beats in the list and is ready. It takes
# NATS_URL and GUILDSTREAM_ID from the environment; a container that is told them by flags, and the simulator, need a
# check of their own.
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s --retries=3 \
  CMD ["node", "build/src/cli.js", "status", "--check", "--log-level", "error"]
ENTRYPOINT ["node", "build/src/cli.js"]
CMD ["--help"]
