#!/bin/bash
#SBATCH --job-name=extrap
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --output=%x-%j.out
#SBATCH --open-mode=append
#SBATCH --requeue

# Slurm may signal this shell, too; it has to see how the study ended.
trap ':' TERM
code=2
run() {
  srun --kill-on-bad-exit=0 --wait=0 "$@"
  code=$?
}
run python -m experiments.addition --steps=600
if [ "$code" -eq 75 ]; then
  # A job that is cancelled is ending already, and could be queued again.
  state="$(squeue --noheader --format=%T --jobs="$SLURM_JOB_ID")"
  if [ "$state" = COMPLETING ] || [ "$state" = CANCELLED ]; then
    echo 'cancelled; submit the same command again to go on' >&2
  elif [ "${SLURM_RESTART_COUNT:-0}" -ge 100 ]; then
    echo 'preempted more than 100 times; not queued' >&2
  elif ! scontrol requeue "$SLURM_JOB_ID"; then
    echo 'preempted; submit the same command again to go on' >&2
  fi
fi
exit "$code"
