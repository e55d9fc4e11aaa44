#!/usr/bin/env bash
# Everything of docs/performance.md's full-size section in one go, each phase with a time limit:
#   bench/device/run-all.sh RESULTS [SECONDS=1200]
# Needs a build (dist), ourvidz setup cuda, and python3 with torch, diffusers, transformers and safetensors; for WebGPU the GPU's
# Vulkan driver and its loader. RESULTS gets what there is after every phase, so that a cut run still gives that, and tables.md.
# PHASES names some of: check make (or make-sdxl, make-wan) sdxl-torch sdxl-steps sdxl wan-torch wan-steps wan both two-cards poison webgpu. WORK is the scratch
# folder (about 25 GB; given, it is kept, and a later call goes on with it). DEVICE (default cuda) is the provider; TINY=1 shrinks
# everything, to try the chain on a CPU.
set -u
cd "$(dirname "$0")/../.." || exit 1
out=$(mkdir -p "$1" && cd "$1" && pwd); total=${2:-1200}; begun=$(date +%s)
device=${DEVICE:-cuda}; keep_work=${WORK:+1}; work=${WORK:-$(mktemp -d)}; mkdir -p "$work"
phases=" ${PHASES:-check make sdxl-torch sdxl-steps sdxl wan-torch wan-steps wan both two-cards poison webgpu} "
steps=wan-17,wan-81; tiny=(); sdxl_sizes=(); wan_sizes=(); job_sizes=(); wan_jobs=()
if [ -n "${TINY:-}" ]; then
  steps=wan-5,wan-9; tiny=(--tiny); sdxl_sizes=(--width 256 --height 256); wan_sizes=(--frames 5 9 --width 128 --height 64)
  job_sizes=(--size 256 --frames 5); wan_jobs=(--jobs 1); export PREVIEW_EVERY_STEPS=5
fi
export PYTHONUNBUFFERED=1
node=$(command -v node); cli=dist/src/cli/main.js; bench=dist/bench/device

left() { echo $(( total - $(date +%s) + begun )); }
limit() { local rest; rest=$(left); if [ "$1" -lt "$rest" ]; then echo "$1"; else echo $(( rest > 1 ? rest : 1 )); fi; }
log() { echo "$(( $(date +%s) - begun )) s  $*" | tee -a "$work/phases.txt"; }
keep() { find "$work" -maxdepth 1 -type f \( -name '*.json' -o -name '*.log' -o -name '*.txt' -o -name '*.png' -o -name '*.mp4' -o -name '*.md' \) -exec cp {} "$out/" \; ; }
wanted() { [[ "$phases" == *" $1 "* ]]; }
phase() { # name, most seconds, command
  local name=$1 most rc; most=$(limit "$2"); shift 2
  timeout -k 5 "$most" "$@" >"$work/$name.log" 2>&1; rc=$?
  log "$name: exit $rc (at most $most s)"; [ $rc = 0 ] || tail -n 5 "$work/$name.log"
  keep; return $rc
}
wait_for() { # file, most seconds, process
  local until=$(( $(date +%s) + $(limit "$2") ))
  while [ ! -f "$1" ] && [ "$(date +%s)" -lt "$until" ] && kill -0 "$3" 2>/dev/null; do sleep 0.3; done
  [ -f "$1" ]
}
jobs() { # phase, most seconds, scenario, device, more
  local name=$1 most=$2 scenario=$3 on=$4; shift 4
  phase "$name" "$most" "$node" $bench/jobs.js --models "$models" --out "$work" --scenario "$scenario" --device "$on" --seconds $(( $(limit "$most") - 8 )) "${job_sizes[@]}" "$@"
}

{ nvidia-smi; nproc; free -g; df -h "$work"; "$node" -v; ldconfig -p | grep -i vulkan; } >"$work/machine.txt" 2>&1
if wanted check && [ "$device" = cuda ]; then
  phase check 60 "$node" $cli setup cuda --check --json
  phase doctor 60 env MODELS_DIR="$work" "$node" $cli doctor --local
fi
# checkpoints are made side by side; what is timed afterwards has the card to itself
started=()
for name in sdxl wan; do
  wanted "$name-torch" || wanted make || wanted "make-$name" || continue
  sizes="${name}_sizes[@]"; wait_flag=(--wait-for "$work/go-$name"); rm -f "$work/go-$name" "$work/$name-made.json" "$work/$name-torch.json"
  python3 bench/device/full_size.py $name --out "$work" "${tiny[@]}" "${!sizes}" "${wait_flag[@]}" >"$work/$name-torch.log" 2>&1 & started+=("$name:$!")
done
for each in "${started[@]}"; do wait_for "$work/${each%%:*}-made.json" 180 "${each##*:}" || log "${each%%:*} was not made"; done
[ ${#started[@]} -gt 0 ] && log "checkpoints are there"
for each in "${started[@]}"; do
  name=${each%%:*}; pid=${each##*:}
  if wanted "$name-torch"; then touch "$work/go-$name"; wait_for "$work/$name-torch.json" 200 "$pid"; log "$name-torch"; fi
  # without timing there is nothing left to do
  kill -9 "$pid" 2>/dev/null
done
wait 2>/dev/null; keep

# a service sees the models that are measured
only() { local name; models="$work/only-$1"; mkdir -p "$models"; shift; for name in "$@"; do ln -sfn "$work/$name" "$models/$name"; done; }
step() { phase "$1" "$2" "$node" $bench/graph-step.js --models "$work" --steps "$3" --device "$4" --seconds 8; }
wan=wan2.1-t2v-1.3b; cards=$(nvidia-smi -L 2>/dev/null | wc -l)
wanted sdxl-steps && step sdxl-steps 90 sdxl-unet,sdxl-vae "$device"
wanted sdxl && { only sdxl sdxl; jobs sdxl 200 sdxl "$device"; }
wanted wan-steps && step wan-steps 120 $steps "$device"
wanted wan && { only wan $wan; jobs wan 240 wan "$device" "${wan_jobs[@]}"; }
wanted both && { only both sdxl $wan; jobs both 420 both "$device" ${TINY:+--jobs 5}; }
if wanted two-cards && { [ "$cards" -gt 1 ] || [ -n "${TINY:-}" ]; }; then only sdxl sdxl; jobs two-cards 240 two-cards "$device" ${TINY:+--jobs 2}; fi
wanted poison && [ "$device" = cuda ] && { only sdxl sdxl; phase poison 120 bash bench/device/poison.sh "$models" "$work"; }
if wanted webgpu; then step webgpu-steps 60 sdxl-unet webgpu; only sdxl sdxl; jobs webgpu 150 sdxl webgpu; fi
"$node" $bench/tables.js "$work" >"$work/tables.md" 2>&1; cat "$work/tables.md"
log "done"; keep; [ -n "$keep_work" ] || rm -rf "$work"
