#!/usr/bin/env bash
# 2 x v6e-16: 32 chips, 8 workers, spot.
# This is one attempt. --execute makes up to 50: what is taken away is
# deleted and asked for again, and the study resumes.
set -euo pipefail

# The tracked files of this folder.
bash -c 'set -o pipefail; git rev-parse && mkdir -p .cache && git ls-files -z | tar -czf .cache/addition.tar.gz --null -T -'

gcloud compute tpus queued-resources create addition --zone=us-east5-b --node-count=2 --node-prefix=addition --accelerator-type=v6e-16 --runtime-version=v2-alpha-tpuv6e --spot --valid-until-duration=12h
trap 'gcloud compute tpus queued-resources delete addition --zone=us-east5-b --force --quiet' EXIT

while :; do
  state=$(gcloud compute tpus queued-resources describe addition --zone=us-east5-b '--format=value(state.state,state.failedData.error.message)')
  case $state in
    ACTIVE*) break ;;
    FAILED* | SUSPEND*) echo "$state" >&2; exit 1 ;;
  esac
  sleep 30
done

# The code and what it needs, on all workers.
gcloud compute tpus queued-resources scp .cache/addition.tar.gz addition: --worker=all --node=all --batch-size=all --zone=us-east5-b --strict-host-key-checking=no --quiet
gcloud compute tpus queued-resources ssh addition --worker=all --node=all --batch-size=all --zone=us-east5-b --strict-host-key-checking=no --quiet --ssh-flag=-oConnectTimeout=60 --ssh-flag=-oServerAliveInterval=30 --ssh-flag=-oServerAliveCountMax=4 '--command=mountpoint -q /mnt/runs || {
    sudo apt-get install -qy nfs-common && sudo mkdir -p /mnt/runs &&
    sudo mount 10.0.0.2:/runs /mnt/runs && sudo chmod a+w /mnt/runs; }'
gcloud compute tpus queued-resources ssh addition --worker=all --node=all --batch-size=all --zone=us-east5-b --strict-host-key-checking=no --quiet --ssh-flag=-oConnectTimeout=60 --ssh-flag=-oServerAliveInterval=30 --ssh-flag=-oServerAliveCountMax=4 '--command=mkdir -p ~/addition && cd ~/addition || exit 1; stop() { pid=$(cat run.pid 2>/dev/null); for n in $(seq 600); do [ "$(readlink "/proc/$pid/cwd")" = "$(pwd -P)" ] || return 0; [ "$n" -gt 1 ] || kill -TERM "$pid"; sleep 0.2; done; kill -KILL "$pid"; }; stop; rm -f run.pid; set -e; tar -xzf ~/addition.tar.gz; python3 -m pip install -q --user uv; python3 -m uv venv -q --clear --python 3.12 .venv; python3 -m uv pip install -q --python .venv/bin/python -r requirements.txt '"'"'jax[tpu]>=0.10,<0.13'"'"''

# The study, on all workers.
gcloud compute tpus queued-resources ssh addition --worker=all --node=all --batch-size=all --zone=us-east5-b --strict-host-key-checking=no --quiet --ssh-flag=-oConnectTimeout=60 --ssh-flag=-oServerAliveInterval=30 --ssh-flag=-oServerAliveCountMax=4 '--command=cd ~/addition || exit 1; if [ -e run.pid ]; then stop() { pid=$(cat run.pid 2>/dev/null); for n in $(seq 600); do [ "$(readlink "/proc/$pid/cwd")" = "$(pwd -P)" ] || return 0; [ "$n" -gt 1 ] || kill -TERM "$pid"; sleep 0.2; done; kill -KILL "$pid"; }; stop; exit 75; fi; echo $$ > run.pid; export EXTRAP_COMMIT=1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f PATH="$PWD/.venv/bin:$PATH"; exec python -m experiments.addition --workdir=/mnt/runs/spot --mesh.data=-1'
