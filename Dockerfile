# The server of Tacenda as an image; docs/deploying.md § Docker. `docker build -t tacenda-server .` in the root of the repository.
# Tags are exact. Whoever wants digests adds them: @sha256:… behind the tag.

FROM node:24.21.0-bookworm-slim AS build
WORKDIR /build
# What is installed changes less often than the sources, and is kept as a layer of its own.
COPY package.json package-lock.json .npmrc ./
COPY packages/protocol/package.json packages/protocol/
COPY packages/sdk/package.json packages/sdk/
COPY packages/server/package.json packages/server/
COPY examples/package.json examples/
RUN npm ci --ignore-scripts
COPY tsconfig.base.json tsconfig.json tsup.config.ts ./
COPY scripts/build.mjs scripts/
COPY packages packages
RUN npm run build
# Exactly what the lock names of the server and no more, in the place of what the build needed.
RUN npm ci --ignore-scripts --omit=dev --omit=optional --workspace=@tacenda/protocol --workspace=@tacenda/server \
  && rm -rf packages/*/src packages/*/test packages/sdk

FROM node:24.21.0-bookworm-slim
ENV NODE_ENV=production \
    TACENDA_HOST=0.0.0.0 \
    TACENDA_DATA_DIR=/var/lib/tacenda
# A fixed number, so that whoever mounts a folder knows whom to give it to.
RUN groupadd --gid 10001 tacenda \
  && useradd --uid 10001 --gid tacenda --no-create-home --home-dir /var/lib/tacenda --shell /usr/sbin/nologin tacenda \
  && install --directory --owner=tacenda --group=tacenda --mode=0700 /var/lib/tacenda
WORKDIR /opt/tacenda
COPY --from=build /build/package.json ./
COPY --from=build /build/node_modules node_modules
COPY --from=build /build/packages packages
USER 10001:10001
VOLUME /var/lib/tacenda
EXPOSE 4200
STOPSIGNAL SIGTERM
# That the process answers, by whatever certificate. Whether its database and key provider do as well is for load balancers to ask: /readyz.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
  CMD ["node", "-e", "const { env, exit } = process; require(env.TACENDA_TLS_CERT ? 'https' : 'http').get({ host: '127.0.0.1', port: env.TACENDA_PORT || 4200, path: '/livez', rejectUnauthorized: false }, ({ statusCode }) => exit(statusCode === 200 ? 0 : 1)).on('error', () => exit(1))"]
# No shell in between: signals reach the server.
ENTRYPOINT ["node", "/opt/tacenda/packages/server/bin/tacenda-server.js"]
CMD ["serve"]
