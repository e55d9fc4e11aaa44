# Two images from one build: `docker build --target cpu .` and `docker build --target cuda .`
# The CUDA one carries what `ourvidz setup cuda` fetches, and needs the NVIDIA container toolkit to run.
ARG NODE_VERSION=24

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
COPY console console
COPY src src
COPY models/cuda.json models/published.json models/
# What stays out: the Node that package.json brings for other machines (the image has its own), builds for other systems, and the
# ffmpeg of the npm packages (a GPL program without its sources): the image has Debian's.
# hadolint ignore=DL3003
RUN npm run build --silent && npm prune --omit=dev --ignore-scripts --no-audit --no-fund \
  && arch="$(node -p process.arch)" && cd node_modules \
  && rm -rf .bin/node node-linux-* @ffmpeg-installer @ffprobe-installer node-llama-cpp/llama/gitRelease.bundle \
  && find onnxruntime-node/bin/napi-v6 -mindepth 2 -maxdepth 2 ! -path "*/linux/${arch}" -exec rm -rf {} + \
  && find @node-llama-cpp -mindepth 1 -maxdepth 1 ! -name "linux-${arch}" -exec rm -rf {} +

FROM build AS build-cuda
# cuda13 for drivers from 580 on, cuda12 for those from 525 on.
ARG CUDA_SET=cuda13
RUN node dist/src/cli/main.js setup cuda --set "${CUDA_SET}" --to /opt/cuda

# What both images run, below /app.
FROM scratch AS service
COPY package.json openapi.yaml LICENSE NOTICE.md /app/
COPY --from=build /app/dist/src /app/dist/src
COPY --from=build /app/dist/client /app/dist/client
COPY --from=build /app/dist/console /app/dist/console
COPY src/services/queue/redis/scripts /app/src/services/queue/redis/scripts
COPY prompts /app/prompts
COPY models /app/models
COPY deploy/healthcheck.js /app/deploy/healthcheck.js

# Without npm, and with the Node of the node image.
FROM debian:bookworm-slim AS cpu
# Versions of the distribution's packages move with its security fixes. ffmpeg can also show videos in a window, for which its packages
# bring drivers of graphics cards (160 MB): they go again, and ffmpeg is tried without them.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates ffmpeg tini \
  && dpkg --purge --force-depends libgl1-mesa-dri libllvm15 libz3-4 \
  && ffmpeg -loglevel error -f lavfi -i color=size=16x16 -frames:v 1 -c:v libx264 -f null - \
  && rm -rf /var/lib/apt/lists/* /var/cache/apt/* \
  && mkdir -p /data/assets && chown -R 1000:1000 /data
COPY --from=node /usr/local/bin/node /usr/local/bin/node
WORKDIR /app
COPY --from=build /app/node_modules /app/node_modules
COPY --from=service /app /app
RUN printf '#!/bin/sh\nexec node /app/dist/src/cli/main.js "$@"\n' > /usr/local/bin/ourvidz && chmod 755 /usr/local/bin/ourvidz
ENV NODE_ENV=production HOST=0.0.0.0 PORT=7860 DATA_DIR=/data ORT_DEVICE=cpu
# Volumes are born with the owner of the folder they are mounted on, and both images share one of them: one user.
USER 1000:1000
VOLUME /data
EXPOSE 7860
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 CMD ["node", "deploy/healthcheck.js"]
ENTRYPOINT ["tini", "--"]
CMD ["node", "dist/src/server.js"]

FROM cpu AS cuda
COPY --from=build-cuda /opt/cuda /opt/cuda
ENV ORT_DEVICE=auto CUDA_DIR=/opt/cuda NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
HEALTHCHECK --interval=30s --timeout=5s --start-period=300s --retries=3 CMD ["node", "deploy/healthcheck.js"]
