#!/usr/bin/env bash
# One worker for each NVIDIA card of this machine, all on one queue: REDIS_URL is needed. The first listens on PORT (7860), the next
# on the port after it, each with a data folder of its own. Other settings are those of `npm start` and go to all. Ends with all of
# them when it is told to, or when one of them has ended, so that whoever watches this script starts it again.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'one-per-card: %s\n' "$*" >&2; }
[[ -n ${REDIS_URL:-} || -n ${UPSTASH_REDIS_REST_URL:-} ]] || { say 'set REDIS_URL: workers without it have a queue each, and nobody shares work'; exit 2; }
# By UUID: numbers move when a card fails. CUDA_VISIBLE_DEVICES chooses among them as usual.
if [[ -n ${CUDA_VISIBLE_DEVICES+set} ]]; then IFS=, read -ra cards <<<"$CUDA_VISIBLE_DEVICES"
else mapfile -t cards < <(nvidia-smi --query-gpu=uuid --format=csv,noheader || true); fi
[[ ${#cards[@]} -gt 0 ]] || { say 'nvidia-smi names no card: see npx ourvidz doctor --local'; exit 2; }

port=${PORT:-7860} data=${DATA_DIR:-data} workers=() told=''
end() { kill -TERM "${workers[@]}" 2>/dev/null || true; }
trap 'told=1; end' TERM INT
for i in "${!cards[@]}"; do
  say "card ${cards[i]} on port $((port + i))"
  CUDA_VISIBLE_DEVICES=${cards[i]} PORT=$((port + i)) DATA_DIR=$data/card-$i node dist/src/server.js & workers+=("$!")
done
code=0; wait -n "${workers[@]}" || code=$?
# a second signal would end at once those that are still putting their jobs back
[[ -n $told ]] || end
for worker in "${workers[@]}"; do wait "$worker" || [[ -z $told ]] || code=$?; done
# told to end and all of them did: nothing went wrong
[[ -n $told && $code -gt 128 ]] && code=0
exit "$code"
