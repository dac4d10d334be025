#!/usr/bin/env bash
# One run on several machines without a scheduler. On each of them the same command:
#   NODES=2 HOST=first-machine:29500 configs/cluster/torchrun.sh -c CONFIG
# A process that dies ends them all; then the run is started again, up to 3 times, from its last checkpoint.
set -euo pipefail
# Processes that are started again would find the addresses of the dead in a store that outlives them.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
: "${NODES:=1}" "${HOST:=localhost:29500}" "${GPUS:=gpu}"
exec torchrun --nnodes "$NODES" --nproc-per-node "$GPUS" --max-restarts 3 \
    --rdzv-backend c10d --rdzv-id kyvo --rdzv-endpoint "$HOST" \
    -m kyvo fit "$@" -c cluster/ddp --trainer.num_nodes "$NODES"
