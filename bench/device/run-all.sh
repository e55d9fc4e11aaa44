#!/usr/bin/env bash
# Everything of docs/performance.md's full-size section in one go, each phase with a time limit:
#   bench/device/run-all.sh RESULTS [SECONDS=400]
# Needs, in the current checkout: a build (dist), python3 with torch, diffusers, transformers, onnx; for WebGPU the GPU's
# Vulkan driver and its loader. RESULTS gets what there is after every phase, so that a cut run still gives that.
# DEVICE (default webgpu) is the provider; TINY=1 shrinks everything, to try the chain on a CPU; WORK is the scratch folder.
set -u
cd "$(dirname "$0")/../.." || exit 1
out=$(mkdir -p "$1" && cd "$1" && pwd); total=${2:-400}; begun=$(date +%s)
device=${DEVICE:-webgpu}; work=${WORK:-$(mktemp -d)}; mkdir -p "$work"
size=1024; steps="wan-17 wan-81"; tiny=(); sdxl_sizes=(); wan_sizes=()
if [ -n "${TINY:-}" ]; then size=256; steps="wan-5 wan-9"; tiny=(--tiny); sdxl_sizes=(--width 256 --height 256); wan_sizes=(--frames 5 9 --width 128 --height 64); fi
export PYTHONUNBUFFERED=1

left() { echo $(( total - $(date +%s) + begun )); }
limit() { local rest; rest=$(left); if [ "$1" -lt "$rest" ]; then echo "$1"; else echo $(( rest > 1 ? rest : 1 )); fi; }
log() { echo "$(( $(date +%s) - begun )) s  $*" | tee -a "$work/phases.txt"; }
keep() { find "$work" -maxdepth 1 -type f \( -name '*.json' -o -name '*.log' -o -name '*.txt' -o -name '*.png' \) -exec cp {} "$out/" \; ; }
phase() { # name, most seconds, command
  local name=$1 most rc; most=$(limit "$2"); shift 2
  log "$name: at most $most s"
  timeout -k 5 "$most" "$@" >"$work/$name.log" 2>&1; rc=$?
  log "$name: exit $rc"; keep; return $rc
}
wait_for() { # file, most seconds, process
  local until=$(( $(date +%s) + $(limit "$2") ))
  while [ ! -f "$1" ] && [ "$(date +%s)" -lt "$until" ] && kill -0 "$3" 2>/dev/null; do sleep 0.3; done
  [ -f "$1" ]
}

{ nvidia-smi; nproc; free -g; df -h "$work"; node -v; ldconfig -p | grep -i vulkan; } >"$work/machine.txt" 2>&1
# a provider that does not open costs a second here, and minutes where it is found out later
if phase probe 60 node dist/bench/device/open-provider.js --device "$device"; then opens=1; else opens=; cat "$work/probe.log"; fi

python3 bench/device/full_size.py sdxl --out "$work" --clip-tokenizers test/parity/models/sdxl-tiny "${tiny[@]}" "${sdxl_sizes[@]}" --wait-for "$work/go-sdxl" >"$work/sdxl-torch.log" 2>&1 & sdxl=$!
python3 bench/device/full_size.py wan --out "$work" "${tiny[@]}" "${wan_sizes[@]}" --wait-for "$work/go-wan" >"$work/wan-torch.log" 2>&1 & wan=$!
wait_for "$work/wan-exported.json" 200 $wan; wait_for "$work/sdxl-exported.json" 200 $sdxl
# what has not exported by now is not timed, and the rest has the card to itself
[ -f "$work/sdxl-exported.json" ] || kill -9 $sdxl 2>/dev/null
[ -f "$work/wan-exported.json" ] || kill -9 $wan 2>/dev/null
log exported; touch "$work/go-sdxl"; wait_for "$work/sdxl-torch.json" 60 $sdxl; kill -9 $sdxl 2>/dev/null
touch "$work/go-wan"; wait_for "$work/wan-torch.json" 60 $wan; kill -9 $wan 2>/dev/null
wait 2>/dev/null; log "timed in torch"; keep

if [ -n "$opens" ]; then
  [ -f "$work/sdxl-unet.json" ] && phase sdxl-unet 60 node dist/bench/device/graph-step.js --models "$work" --steps sdxl-unet --device "$device" --seconds 15
  [ -f "$work/sdxl-exported.json" ] && phase sdxl-job 130 node dist/bench/device/sdxl-job.js --models "$work" --device "$device" --seconds 115 --size $size
  have=; for step in $steps; do [ -f "$work/$step.json" ] && have="${have:+$have,}$step"; done
  [ -n "$have" ] && phase wan-step 170 node dist/bench/device/graph-step.js --models "$work" --steps "$have" --device "$device" --seconds 12
fi
log "done"; keep; rm -rf "$work"
[ -n "$opens" ]
