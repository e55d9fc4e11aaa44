#!/bin/sh
# Submits a job by the queue with redis-cli: REDIS_URL=redis://… redis-cli.sh
set -eu
id=$(cat /proc/sys/kernel/random/uuid 2>/dev/null || uuidgen)
printf '{"id": "%s", "type": "sdxl_image_fast", "prompt": "a small yellow star", "user_id": "00000000-0000-4000-8000-000000000001", "config": {"num_images": 1}}' "$id" |
  redis-cli -u "${REDIS_URL:-redis://127.0.0.1:6379}" -x LPUSH sdxl_queue >/dev/null
echo "$id"
