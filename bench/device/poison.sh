#!/usr/bin/env bash
# What becomes of an engine whose CUDA context a kernel broke: poison.sh MODELS OUT. Needs nvcc.
set -e
cd "$(dirname "$0")/../.."
library=$2/poison.so
nvcc -shared -Xcompiler -fPIC -arch=native -cudart static -o "$library" bench/device/poison.cu
CUDA_POISON_FILE="$2/poison.now" CUDA_POISON_LIBRARY="$library" "$(command -v node)" dist/bench/device/poison.js --models "$1" --out "$2"
