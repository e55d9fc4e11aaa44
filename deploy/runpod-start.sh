#!/usr/bin/env bash
# Start command of a RunPod pod: port 7860, the environment of the reference worker (SUPABASE_URL, SUPABASE_SERVICE_KEY,
# UPSTASH_REDIS_REST_URL, UPSTASH_REDIS_REST_TOKEN, WAN_WORKER_API_KEY, HF_HOME, METRICS_URL; RUNPOD_POD_ID comes from RunPod).
# What is set already is kept. Ends with the service's own exit code.
set -euo pipefail
cd "$(dirname "$0")/.."

volume=${RUNPOD_VOLUME:-/workspace}
say() { printf 'runpod-start: %s\n' "$*" >&2; }

export HOST=${HOST:-0.0.0.0}
export PORT=${PORT:-7860}
# The network volume outlives the pod; each pod has a folder of its own on it, the embedded queue belongs to one process.
if [[ -z ${DATA_DIR:-} && -d $volume && -w $volume ]]; then
  export DATA_DIR="$volume/ourvidz/${RUNPOD_POD_ID:-local}"
fi
for folder in "$volume/models" "${HF_HOME:-/nonexistent}/models"; do
  if [[ -z ${MODELS_DIR:-} && -d $folder ]]; then export MODELS_DIR="$folder"; fi
done
[[ -n ${DATA_DIR:-} ]] && mkdir -p "$DATA_DIR"

[[ -n ${RUNPOD_POD_ID:-} ]] || say 'RUNPOD_POD_ID is not set: the address of this worker will not be registered'
for variable in SUPABASE_URL SUPABASE_SERVICE_KEY WAN_WORKER_API_KEY; do
  [[ -n ${!variable:-} ]] || say "$variable is not set"
done
[[ -n ${REDIS_URL:-} || -n ${UPSTASH_REDIS_REST_URL:-} ]] || say 'neither REDIS_URL nor UPSTASH_REDIS_REST_URL is set: the queue is embedded, nobody else can push jobs to it'

if [[ ! -f dist/src/server.js ]]; then
  say 'building'
  npm ci --no-audit --no-fund
fi
# The Node that package.json brings, whatever the pod's own is.
export PATH="$PWD/node_modules/.bin:$PATH"

# Says what is missing before anything waits for it; the service itself decides what it cannot do without.
node dist/src/cli/main.js doctor --local >&2 || say "doctor ended with $?: see above"

say "starting on $HOST:$PORT, data in ${DATA_DIR:-data}, models in ${MODELS_DIR:-models/pocket}"
exec node dist/src/server.js
