"""Runs a study on GKE: a JobSet of TPU slices, or of machines with GPUs.

  python -m launch.kubernetes --name=addition --accelerator=v5litepod-16 \\
    --image=us-docker.pkg.dev/mine/extrap:1 --volume=gs://my-bucket -- \\
    python -m experiments.addition --workdir=/runs/addition

prints the manifest; with --execute it is given to `kubectl apply`. The image
holds this repository, with what it needs, as its working directory. The cluster
needs the JobSet controller.

Every pod runs the command. If a pod is lost, preempted (75) or killed, all are
started again and the study resumes, up to --max_restarts times; a usage error
(2) and divergence (3) end the JobSet at once.

--xpk prints the matching `xpk workload create`, for clusters made by xpk.
"""

import dataclasses
import re
import subprocess
from collections.abc import Sequence
from typing import TypeAlias

# Not in requirements.txt by itself: flax and orbax-checkpoint both need it.
# JSON would do for kubectl, but a dry run is read by people.
import yaml

from extrap.config import option
from extrap.errors import ExtrapError, UsageError
from launch import accelerators, command_line, commit, shared_folder
from launch.accelerators import Slice

Manifest: TypeAlias = dict[str, object]

_REQUIRED = dataclasses.MISSING
_JOB = 'worker'  # Of the JobSet; also the name of the container.
_PORT = 8476
# A run that ends like this would do so again.
_FINAL_CODES = [2, 3]
# What xpk restarts by itself are 42 and 127 to 255.
_XPK_RESTARTS = '1,75'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """Flags of `python -m launch.kubernetes`."""

  name: str = option(_REQUIRED, 'name of the JobSet')
  image: str = option(_REQUIRED, 'container image with this repository')
  volume: str = option(
    _REQUIRED,
    'where run folders outlive pods: gs://bucket[/folder], or pvc:claim (one '
    'that many nodes can write to)',
  )
  mount: str = option('/runs', 'where the volume is in the containers')
  accelerator: str | None = option(
    None, 'type of TPU slice: v4-8, v5litepod-16, v5p-128, v6e-256, ...'
  )
  slices: int = option(1, 'TPU slices that train together', minimum=1)
  gpus: int = option(0, 'GPUs of a machine, instead of TPUs', minimum=0)
  nodes: int = option(1, 'machines with GPUs', minimum=1)
  gpu_type: str | None = option(
    None, 'label cloud.google.com/gke-accelerator, as in nvidia-h100-80gb'
  )
  spot: bool = option(False, 'run on spot nodes, which may be taken away')
  max_restarts: int = option(
    50, 'how often the JobSet is started again', minimum=0
  )
  grace_seconds: int = option(
    120,
    'time between SIGTERM and SIGKILL, for the last save; spot nodes give less',
    unit='seconds',
    minimum=0,
  )
  namespace: str | None = option(None, "namespace (default: kubectl's own)")
  service_account: str | None = option(
    None, 'Kubernetes service account that may use the bucket'
  )
  queue: str | None = option(None, 'local queue of Kueue')
  xpk: bool = option(False, 'print the xpk command instead of the manifest')
  cluster: str | None = option(None, 'for --xpk: the cluster')
  zone: str | None = option(None, 'for --xpk: its zone')
  project: str | None = option(None, 'for --xpk: its project')
  execute: bool = option(False, 'apply the manifest instead of printing it')


def launch(config: Config, command: list[str]) -> int:
  """Prints the manifest or the xpk command, or applies the manifest.

  Raises:
    UsageError: the flags cannot be used; nothing has been created.
    ExtrapError: kubectl is missing or refuses.
  """
  check(config, command)
  if config.xpk:
    print(command_line.shown(xpk(config, command, commit.here())))
    return 0
  text = render(manifest(config, command, commit.here()))
  if config.execute:
    _apply(config, text)
    print(advice(config))
    return 0
  applied = command_line.shown(kubectl(config, 'apply', '--filename=-'))
  print(f'# --execute gives this to: {applied}')
  print(re.sub('^', '# ', advice(config), flags=re.MULTILINE))
  print(text, end='')
  return 0


def check(config: Config, command: Sequence[str]) -> None:
  """Refuses what could not run, or would lose its results."""
  command_line.check_command(command, 'kubernetes')
  command_line.check_no_cluster_flags(command, 'kubernetes')
  if bool(config.accelerator) == bool(config.gpus):
    raise UsageError('give one of --accelerator (TPUs) and --gpus')
  # With what is added to it, a pod's name must be a label of at most 63.
  if not re.fullmatch(r'[a-z]([-a-z0-9]{0,38}[a-z0-9])?', config.name):
    raise UsageError(
      f'--name={config.name}: use up to 40 of a-z, 0-9 and -, a letter first'
    )
  _check_devices(config)
  _check_folder(config, command)


def _check_devices(config: Config) -> None:
  if config.accelerator:
    accelerators.find(config.accelerator)
    if config.nodes > 1 or config.gpu_type:
      raise UsageError('--nodes and --gpu_type are for --gpus')
  elif config.slices > 1:
    raise UsageError('--slices is for TPUs; give the machines with --nodes')
  _check_slices(config)
  if config.xpk and config.gpus:
    raise UsageError('--xpk is for TPUs; for GPUs, use the manifest')
  if config.xpk and not config.cluster:
    raise UsageError('--xpk needs --cluster')
  if config.xpk and config.execute:
    raise UsageError('--xpk is only printed; run what it prints')


def _check_slices(config: Config) -> None:
  """Source: cloud.google.com/kubernetes-engine/docs/how-to/tpu-multislice."""
  slice_ = _slice(config)
  if slice_ and slice_.hosts == 1 and config.slices > 1:
    raise UsageError(
      f'--slices={config.slices}: GKE joins slices of several hosts, and '
      f'--accelerator={config.accelerator} is one host'
    )


def _check_folder(config: Config, command: Sequence[str]) -> None:
  """Refuses a run folder that would go away with its pod."""
  if not re.fullmatch(r'gs://[^/]+(/.+)?|pvc:.+', config.volume):
    raise UsageError(
      f'--volume={config.volume} is neither gs://bucket[/folder] nor pvc:claim'
    )
  mount = config.mount.rstrip('/')
  if not mount.startswith('/'):
    raise UsageError(f'--mount={config.mount} is not an absolute path')
  how = f'give a path in the volume: --workdir={mount}/...'
  folder = shared_folder.check(command, where='each pod', how=how)
  if not folder.startswith(f'{mount}/'):
    raise UsageError(f'--workdir={folder} is local to each pod; {how}')


# The manifest, as plain data. Sources: jobset.sigs.k8s.io/docs/reference,
# kubernetes.io/docs/concepts/workloads/controllers/job and
# cloud.google.com/kubernetes-engine/docs/how-to/tpus.


def manifest(
  config: Config, command: Sequence[str], version: str | None = None
) -> Manifest:
  """The JobSet.

  Args:
    config: flags of the launcher.
    command: the study.
    version: commit of this folder, for an image that has no history.
  """
  slice_ = _slice(config)
  metadata: Manifest = {'name': config.name}
  if config.namespace:
    metadata['namespace'] = config.namespace
  if config.queue:
    metadata['labels'] = {'kueue.x-k8s.io/queue-name': config.queue}
  if slice_ and slice_.hosts > 1:
    # A node pool is a slice: two jobs must not share one.
    metadata['annotations'] = {
      'alpha.jobset.sigs.k8s.io/exclusive-topology': (
        'cloud.google.com/gke-nodepool'
      )
    }
  return {
    'apiVersion': 'jobset.x-k8s.io/v1alpha2',
    'kind': 'JobSet',
    'metadata': metadata,
    'spec': {
      'network': {'enableDNSHostnames': True},
      'failurePolicy': {
        'maxRestarts': config.max_restarts,
        'rules': [
          {
            'name': 'final',
            'action': 'FailJobSet',
            'onJobFailureReasons': ['PodFailurePolicy'],
          }
        ],
      },
      'replicatedJobs': [
        {
          'name': _JOB,
          'replicas': config.slices,
          'template': {'spec': _job(config, command, version)},
        }
      ],
    },
  }


def _job(
  config: Config, command: Sequence[str], version: str | None
) -> Manifest:
  """One slice, or all machines with GPUs."""
  slice_ = _slice(config)
  hosts = slice_.hosts if slice_ else config.nodes
  pod: Manifest = {}
  if config.volume.startswith('gs://'):
    pod['metadata'] = {'annotations': {'gke-gcsfuse/volumes': 'true'}}
  pod['spec'] = _pod(config, command, version)
  return {
    'parallelism': hosts,
    'completions': hosts,
    'completionMode': 'Indexed',
    # One lost pod fails the job, and with it the JobSet starts again: the
    # others cannot go on without it.
    'backoffLimit': 0,
    'podFailurePolicy': {
      'rules': [
        {
          'action': 'FailJob',
          'onExitCodes': {
            'containerName': _JOB,
            'operator': 'In',
            'values': list(_FINAL_CODES),
          },
        }
      ]
    },
    'template': pod,
  }


def _pod(
  config: Config, command: Sequence[str], version: str | None
) -> Manifest:
  spec: Manifest = {
    'restartPolicy': 'Never',
    'terminationGracePeriodSeconds': config.grace_seconds,
    'nodeSelector': _node_labels(config),
    'tolerations': _tolerations(config),
    'containers': [_container(config, command, version)],
    'volumes': [
      {'name': 'runs', **_volume(config)},
      # NCCL and libtpu share memory; the default is 64 MiB.
      {'name': 'shm', 'emptyDir': {'medium': 'Memory'}},
    ],
  }
  if config.service_account:
    spec['serviceAccountName'] = config.service_account
  if _on_host_network(config):
    spec['hostNetwork'] = True
    spec['dnsPolicy'] = 'ClusterFirstWithHostNet'
  return spec


def _container(
  config: Config, command: Sequence[str], version: str | None
) -> Manifest:
  slice_ = _slice(config)
  kind, count = 'nvidia.com/gpu', config.gpus
  if slice_:
    kind, count = 'google.com/tpu', slice_.chips_per_host
  container: Manifest = {
    'name': _JOB,
    'image': config.image,
    'command': [*map(_literal, command), *_cluster_flags(config)],
    'env': [{'name': k, 'value': v} for k, v in _variables(version).items()],
    'resources': {'limits': {kind: count}},
    'volumeMounts': [
      {'name': 'runs', 'mountPath': config.mount},
      {'name': 'shm', 'mountPath': '/dev/shm'},
    ],
  }
  if slice_:
    # TPUs are devices of the host, and lock memory.
    container['securityContext'] = {'privileged': True}
  return container


def _variables(version: str | None) -> dict[str, str]:
  told = {commit.COMMIT_VARIABLE: version} if version else {}
  return {'PYTHONUNBUFFERED': '1', **told}


def _cluster_flags(config: Config) -> list[str]:
  """Tells the pods with GPUs who they are.

  GKE tells TPU pods (TPU_WORKER_ID, TPU_WORKER_HOSTNAMES, MEGASCALE_...), and
  jax reads that. Elsewhere jax would need its extra [k8s], and the right to
  list pods. Kubernetes puts the index in; there is no shell.
  """
  if _slice(config):
    return []
  coordinator = f'{config.name}-{_JOB}-0-0.{config.name}:{_PORT}'
  return [
    f'--cluster.coordinator={coordinator}',
    f'--cluster.processes={config.nodes}',
    '--cluster.rank=$(JOB_COMPLETION_INDEX)',
  ]


def _literal(word: str) -> str:
  """A word that Kubernetes leaves as it is: it would replace $(NAME)."""
  return word.replace('$', '$$')


def _node_labels(config: Config) -> Manifest:
  labels: Manifest = {}
  if slice_ := _slice(config):
    label = slice_.generation.gke_label
    labels['cloud.google.com/gke-tpu-accelerator'] = label
    labels['cloud.google.com/gke-tpu-topology'] = slice_.topology
  if config.gpu_type:
    labels['cloud.google.com/gke-accelerator'] = config.gpu_type
  if config.spot:
    labels['cloud.google.com/gke-spot'] = 'true'
  return labels


def _tolerations(config: Config) -> list[Manifest]:
  kind = 'google.com/tpu' if config.accelerator else 'nvidia.com/gpu'
  keys = [kind, *(['cloud.google.com/gke-spot'] if config.spot else [])]
  return [{'key': key, 'operator': 'Exists'} for key in keys]


def _volume(config: Config) -> Manifest:
  """Source: cloud.google.com/kubernetes-engine/docs, Cloud Storage FUSE."""
  if config.volume.startswith('pvc:'):
    claim = config.volume.removeprefix('pvc:')
    return {'persistentVolumeClaim': {'claimName': claim}}
  bucket, _, folder = config.volume.removeprefix('gs://').partition('/')
  options = 'implicit-dirs' + (f',only-dir={folder}' if folder else '')
  attributes = {'bucketName': bucket, 'mountOptions': options}
  if _on_host_network(config):
    attributes['hostNetworkPodKSA'] = 'true'
  driver = 'gcsfuse.csi.storage.gke.io'
  return {'csi': {'driver': driver, 'volumeAttributes': attributes}}


def _on_host_network(config: Config) -> bool:
  """Slices talk to each other over the network of their hosts, for speed."""
  return config.accelerator is not None and config.slices > 1


def _slice(config: Config) -> Slice | None:
  return accelerators.find(config.accelerator) if config.accelerator else None


def render(data: Manifest) -> str:
  """The manifest as YAML, keys in the order that people expect."""
  return yaml.safe_dump(data, sort_keys=False, width=80)


# Commands.


def xpk(
  config: Config, command: Sequence[str], version: str | None = None
) -> list[str]:
  """The command that makes xpk start the same.

  The volume has been given to the cluster by `xpk storage attach`, under the
  name of the bucket or of the claim.

  Source: github.com/AI-Hypercomputer/xpk, docs/usage/workloads.md.
  """
  storage = re.sub(r'^(gs://|pvc:)', '', config.volume).partition('/')[0]
  place = {'zone': config.zone, 'project': config.project}
  return [
    *('xpk', 'workload', 'create', f'--workload={config.name}'),
    f'--cluster={config.cluster}',
    *(f'--{name}={value}' for name, value in place.items() if value),
    f'--tpu-type={config.accelerator}',
    f'--num-slices={config.slices}',
    f'--docker-image={config.image}',
    f'--storage={storage}',
    f'--max-restarts={config.max_restarts}',
    f'--restart-on-exit-codes={_XPK_RESTARTS}',
    f'--termination-grace-period-seconds={config.grace_seconds}',
    *(['--spot'] if config.spot else []),
    *(f'--env={k}={v}' for k, v in _variables(version).items()),
    f'--command={command_line.shown(command)}',
  ]


def kubectl(config: Config, *words: str) -> list[str]:
  """A call of kubectl in the right namespace."""
  namespace = [f'--namespace={config.namespace}'] if config.namespace else []
  return ['kubectl', *namespace, *words]


def advice(config: Config) -> str:
  """How to follow the JobSet, and to delete it."""
  label = f'jobset.sigs.k8s.io/jobset-name={config.name}'
  slice_ = _slice(config)
  pods = config.slices * slice_.hosts if slice_ else config.nodes
  watch = kubectl(config, 'get', 'jobset', config.name, '--watch')
  logs = kubectl(
    config,
    *('logs', '--follow', '--prefix', f'--selector={label}'),
    f'--max-log-requests={pods}',
  )
  delete = kubectl(config, 'delete', 'jobset', config.name)
  rows = {'watch': watch, 'logs': logs, 'delete': delete}
  shown = command_line.shown
  return '\n'.join(f'{what}: {shown(words)}' for what, words in rows.items())


def _apply(config: Config, text: str) -> None:
  command_line.check_program('kubectl', 'install it, and log in to a cluster')
  words = kubectl(config, 'apply', '--filename=-')
  done = subprocess.run(words, input=text, text=True)
  if done.returncode:
    raise ExtrapError(
      f'{config.name}: kubectl refuses the manifest (exit code '
      f'{done.returncode}; its reason is above)'
    )


if __name__ == '__main__':
  command_line.run(launch, Config, __doc__)
