#!/bin/bash
#SBATCH --job-name=extrap
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=4
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --output=%x-%A_%a.out
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --array=0-2%2

# Slurm may signal this shell, too; it has to see how the study ended.
trap ':' TERM
code=2
run() {
  srun --kill-on-bad-exit=0 --wait=0 --cpus-per-task=4 "$@"
  code=$?
}
case "$SLURM_ARRAY_TASK_ID" in
  0) run python -m experiments.addition --steps=600 --seed=0 '--note=it'"'"'s $HOME' ;;
  1) run python -m experiments.addition --steps=600 --seed=1 '--note=it'"'"'s $HOME' ;;
  2) run python -m experiments.addition --steps=600 --seed=2 '--note=it'"'"'s $HOME' ;;
esac
if [ "$code" -eq 75 ]; then
  # A job that is cancelled is ending already, and could be queued again.
  state="$(squeue --noheader --format=%T --jobs="${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}")"
  if [ "$state" = COMPLETING ] || [ "$state" = CANCELLED ]; then
    echo 'cancelled; submit the same command again to go on' >&2
  elif [ "${SLURM_RESTART_COUNT:-0}" -ge 100 ]; then
    echo 'preempted more than 100 times; not queued' >&2
  elif ! scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"; then
    echo 'preempted; submit the same command again to go on' >&2
  fi
fi
exit "$code"
