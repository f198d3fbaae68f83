#!/bin/bash
#SBATCH --job-name=addition
#SBATCH --partition=gpu
#SBATCH --account=lab
#SBATCH --constraint=a100|h100
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=12
#SBATCH --mem=500G
#SBATCH --time=1-12:00:00
#SBATCH --signal=TERM@300
#SBATCH --output=logs/%x-%j.out
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --qos=high
#SBATCH --exclusive

set -e
module load cuda; source .venv/bin/activate
set +e
# Slurm may signal this shell, too; it has to see how the study ended.
trap ':' TERM
code=2
run() {
  srun --kill-on-bad-exit=0 --wait=0 --label --cpus-per-task=12 "$@"
  code=$?
}
run python -m experiments.addition --steps=600 '--workdir=runs/two nodes'
if [ "$code" -eq 75 ]; then
  # A job that is cancelled is ending already, and could be queued again.
  state="$(squeue --noheader --format=%T --jobs="$SLURM_JOB_ID")"
  if [ "$state" = COMPLETING ] || [ "$state" = CANCELLED ]; then
    echo 'cancelled; submit the same command again to go on' >&2
  elif [ "${SLURM_RESTART_COUNT:-0}" -ge 5 ]; then
    echo 'preempted more than 5 times; not queued' >&2
  elif ! scontrol requeue "$SLURM_JOB_ID"; then
    echo 'preempted; submit the same command again to go on' >&2
  fi
fi
exit "$code"
