#!/usr/bin/env bash
# sbatch --nodes 2 configs/cluster/slurm.sh -c CONFIG
#SBATCH --job-name kyvo
#SBATCH --nodes 1
#SBATCH --gpus-per-node 8
#SBATCH --ntasks-per-node 8
#SBATCH --cpus-per-task 8
#SBATCH --time 24:00:00
# Two minutes before its time is up each process gets SIGUSR1: the run saves and queues itself again.
#SBATCH --signal=USR1@120
#SBATCH --requeue
# One log for all parts of the run.
#SBATCH --open-mode append
#SBATCH --output slurm-%j.log
set -euo pipefail
export NCCL_DEBUG=WARN
# The tasks are the processes: Lightning reads ranks, addresses and their number from SLURM.
exec srun --kill-on-bad-exit=1 kyvo fit "$@" -c cluster/ddp \
    --trainer.num_nodes "$SLURM_NNODES" --trainer.devices "$SLURM_NTASKS_PER_NODE"
