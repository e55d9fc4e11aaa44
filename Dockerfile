# Two images from one build: `docker build --target cpu .` and `docker build --target cuda .`
# The CUDA one fetches onnxruntime's CUDA libraries from NuGet while it is built, and needs the NVIDIA container toolkit to run.
ARG NODE_VERSION=24
ARG CUDA_IMAGE=nvidia/cuda:12.8.1-cudnn-runtime-ubuntu24.04

FROM node:${NODE_VERSION}-bookworm-slim AS node

FROM node AS build
WORKDIR /app
COPY package.json package-lock.json ./
# No package needs its install script: native code comes ready in the packages.
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json openapi.yaml ./
COPY tools tools
COPY bench bench
COPY test test
COPY client client
COPY src src
# The image's own Node runs everything: the one that package.json brings for other machines stays out.
RUN npm run build --silent && npm prune --omit=dev --ignore-scripts --no-audit --no-fund \
  && rm -rf node_modules/.bin/node node_modules/node-linux-*

FROM build AS build-cuda
RUN ONNXRUNTIME_NODE_INSTALL=cuda12 node node_modules/onnxruntime-node/script/install.js

# What both images run, below /app.
FROM scratch AS service
COPY package.json openapi.yaml /app/
COPY --from=build /app/dist/src /app/dist/src
COPY --from=build /app/dist/client /app/dist/client
COPY src/services/queue/redis/scripts /app/src/services/queue/redis/scripts
COPY prompts /app/prompts
COPY models /app/models
COPY deploy /app/deploy

# Volumes are born with the owner of the folder they are mounted on, and both images share one of them: one user.
FROM node AS cpu
# Versions of the distribution's packages move with its security fixes.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates ffmpeg tini && rm -rf /var/lib/apt/lists/* \
  && mkdir -p /data/assets && chown -R 1000:1000 /data
WORKDIR /app
COPY --from=build /app/node_modules /app/node_modules
COPY --from=service /app /app
ENV NODE_ENV=production HOST=0.0.0.0 PORT=7860 DATA_DIR=/data ORT_DEVICE=cpu
USER 1000
VOLUME /data
EXPOSE 7860
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 CMD ["node", "deploy/healthcheck.js"]
ENTRYPOINT ["tini", "--"]
CMD ["node", "dist/src/server.js"]

FROM ${CUDA_IMAGE} AS cuda
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates ffmpeg tini && rm -rf /var/lib/apt/lists/* \
  && mkdir -p /data/assets && chown -R 1000:1000 /data
COPY --from=node /usr/local/bin/node /usr/local/bin/node
WORKDIR /app
COPY --from=build-cuda /app/node_modules /app/node_modules
COPY --from=service /app /app
ENV NODE_ENV=production HOST=0.0.0.0 PORT=7860 DATA_DIR=/data ORT_DEVICE=auto NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000
VOLUME /data
EXPOSE 7860
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=300s --retries=3 CMD ["node", "deploy/healthcheck.js"]
ENTRYPOINT ["tini", "--"]
CMD ["node", "dist/src/server.js"]
