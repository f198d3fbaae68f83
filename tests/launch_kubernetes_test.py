"""launch.kubernetes: manifests, what they promise, and the call of kubectl."""

import os
import re
import shlex
import subprocess
import sys

import golden
import pytest
import yaml

from extrap import config_json
from launch import command_line, kubernetes

COMMAND = ['python', '-m', 'experiments.addition', '--workdir=/runs/a']
NEEDED = ('--name=add', '--image=repository/extrap:1', '--volume=pvc:runs')
TPU = (*NEEDED, '--accelerator=v5litepod-16')

FAKE = """#!/bin/sh
printf '%s\\n' "$*" >> "$CALLS"
cat > "$CALLS.input"
exit "$CODE"
"""


@pytest.fixture(autouse=True)
def no_commit(monkeypatch):
  """Goldens do not depend on that of this folder."""
  monkeypatch.setattr(kubernetes.commit, 'here', lambda: None)


@pytest.fixture
def kubectl(tmp_path, monkeypatch):
  """A fake kubectl on PATH; returns the file with its calls."""
  path = tmp_path / 'bin' / 'kubectl'
  path.parent.mkdir()
  path.write_text(FAKE)
  path.chmod(0o755)
  monkeypatch.setenv('PATH', f'{tmp_path}/bin:{os.environ["PATH"]}')
  monkeypatch.setenv('CALLS', str(tmp_path / 'calls'))
  monkeypatch.setenv('CODE', '0')
  return tmp_path / 'calls'


def config(**changes):
  given = {'name': 'add', 'image': 'repository/extrap:1', 'volume': 'pvc:runs'}
  return kubernetes.Config(**given | changes)


def built(command=COMMAND, **changes):
  """The manifest, and the parts that tests ask about most."""
  data = kubernetes.manifest(config(**changes), command)
  (replicated,) = data['spec']['replicatedJobs']
  job = replicated['template']['spec']
  pod = job['template']['spec']
  return data, replicated, job, pod


def run(capfd, *flags, command=COMMAND):
  """The launcher in this process: exit code, output, errors."""
  with pytest.raises(SystemExit) as caught:
    command_line.run(
      kubernetes.launch,
      kubernetes.Config,
      '',
      ['kubernetes', *flags, '--', *command],
    )
  said = capfd.readouterr()
  return caught.value.code, said.out, said.err


CASES = {
  'slice': {'accelerator': 'v5litepod-16', 'volume': 'gs://bucket'},
  'slices': {
    'accelerator': 'v5p-128',
    'slices': 2,
    'volume': 'gs://bucket/some/folder',
    'spot': True,
    'service_account': 'writer',
    'queue': 'tpus',
    'namespace': 'mine',
  },
  'one_host': {'accelerator': 'v6e-8'},
  'gpus': {'gpus': 8, 'nodes': 2, 'gpu_type': 'nvidia-h100-80gb'},
}


@pytest.mark.parametrize('name', CASES)
def test_manifest_is_the_golden_one(name):
  text = kubernetes.render(built(**CASES[name])[0])
  assert yaml.safe_load(text) == built(**CASES[name])[0]
  golden.check(f'kubernetes/{name}.yaml', text)


@pytest.mark.parametrize(
  ('accelerator', 'hosts', 'chips', 'kind', 'topology'),
  [
    ('v4-32', 4, 4, 'tpu-v4-podslice', '2x2x4'),
    ('v5litepod-16', 4, 4, 'tpu-v5-lite-podslice', '4x4'),
    ('v5p-8', 1, 4, 'tpu-v5p-slice', '2x2x1'),
    ('v6e-8', 1, 8, 'tpu-v6e-slice', '2x4'),
    ('v6e-16', 4, 4, 'tpu-v6e-slice', '4x4'),
  ],
)
def test_slices_become_jobs_and_hosts_become_pods(
  accelerator, hosts, chips, kind, topology
):
  slices = 3 if hosts > 1 else 1
  _, replicated, job, pod = built(accelerator=accelerator, slices=slices)
  assert replicated['replicas'] == slices
  assert job['parallelism'] == job['completions'] == hosts
  assert pod['nodeSelector'] == {
    'cloud.google.com/gke-tpu-accelerator': kind,
    'cloud.google.com/gke-tpu-topology': topology,
  }
  limits = pod['containers'][0]['resources']['limits']
  assert limits == {'google.com/tpu': chips}


def test_tpu_pods_learn_their_rank_from_gke():
  _, _, _, pod = built(accelerator='v4-32')
  assert pod['containers'][0]['command'] == COMMAND


def test_gpu_pods_are_told_their_rank():
  data, replicated, job, pod = built(gpus=8, nodes=4)
  assert (replicated['replicas'], job['completions']) == (1, 4)
  container = pod['containers'][0]
  assert container['resources']['limits'] == {'nvidia.com/gpu': 8}
  *command, coordinator, count, rank = container['command']
  assert command == COMMAND
  # Names of pods: jobset.sigs.k8s.io/docs/concepts.
  host = f'{data["metadata"]["name"]}-{replicated["name"]}-0-0.add'
  assert coordinator == f'--cluster.coordinator={host}:8476'
  assert data['spec']['network']['enableDNSHostnames']
  assert count == '--cluster.processes=4'
  assert job['completionMode'] == 'Indexed'
  assert expanded(rank, JOB_COMPLETION_INDEX='3') == '--cluster.rank=3'


def test_flags_of_gpu_pods_are_those_of_a_study():
  """A stale name would only fail on the cluster."""
  distributed = pytest.importorskip('extrap.training.distributed')
  data = config_json.to_json(distributed.ClusterConfig())
  _, _, _, pod = built(gpus=8)
  flags = pod['containers'][0]['command'][len(COMMAND) :]
  names = [flag.partition('=')[0] for flag in flags]
  assert {name.removeprefix('--cluster.') for name in names} < set(data)


def expanded(word: str, **variables: str) -> str:
  """What Kubernetes makes of a word of a command."""

  def value(match: re.Match) -> str:
    if match[0] == '$$':
      return '$'
    return variables.get(match[1], match[0])

  return re.sub(r'\$\$|\$\(([^)]*)\)', value, word)


def test_words_reach_the_study_as_they_are():
  hard = ["it's", '$(JOB_COMPLETION_INDEX)', '$$', '$HOME', 'a: b', '- c', '#']
  hard += ['', 'a\nb', '"', '\\', 'null', '1', 'yes', '\u00e9']
  data, *_ = built([*COMMAND, *hard], gpus=8)
  data = yaml.safe_load(kubernetes.render(data))
  (replicated,) = data['spec']['replicatedJobs']
  container = replicated['template']['spec']['template']['spec']['containers'][
    0
  ]
  words = [
    expanded(word, JOB_COMPLETION_INDEX='0') for word in container['command']
  ]
  assert words[: len(COMMAND) + len(hard)] == [*COMMAND, *hard]


def test_preemption_restarts_but_usage_errors_and_divergence_do_not():
  data, _, job, pod = built(accelerator='v4-32', max_restarts=7)
  assert pod['restartPolicy'] == 'Never' and job['backoffLimit'] == 0
  (rule,) = job['podFailurePolicy']['rules']
  assert rule['action'] == 'FailJob'
  assert rule['onExitCodes'] == {
    'containerName': pod['containers'][0]['name'],
    'operator': 'In',
    'values': [2, 3],
  }
  policy = data['spec']['failurePolicy']
  assert policy['maxRestarts'] == 7
  (rule,) = policy['rules']
  assert rule['action'] == 'FailJobSet'
  assert rule['onJobFailureReasons'] == ['PodFailurePolicy']


def test_pods_have_time_for_the_last_save_and_a_place_that_stays():
  _, _, _, pod = built(accelerator='v4-32', grace_seconds=300)
  assert pod['terminationGracePeriodSeconds'] == 300
  (runs,) = [one for one in pod['volumes'] if one['name'] == 'runs']
  assert runs['persistentVolumeClaim'] == {'claimName': 'runs'}
  mounts = pod['containers'][0]['volumeMounts']
  assert {'name': 'runs', 'mountPath': '/runs'} in mounts


@pytest.mark.parametrize('slices', [1, 2])
def test_bucket(slices):
  _, _, job, pod = built(
    accelerator='v4-32', volume='gs://bucket/folder', slices=slices
  )
  annotations = job['template']['metadata']['annotations']
  assert annotations == {'gke-gcsfuse/volumes': 'true'}
  csi = pod['volumes'][0]['csi']
  assert csi['driver'] == 'gcsfuse.csi.storage.gke.io'
  assert csi['volumeAttributes']['bucketName'] == 'bucket'
  assert 'only-dir=folder' in csi['volumeAttributes']['mountOptions']
  # On the network of its host a pod is not known to the bucket by itself.
  assert ('hostNetworkPodKSA' in csi['volumeAttributes']) == (slices == 2)
  assert ('hostNetwork' in pod) == (slices == 2)


def test_spot_nodes_are_chosen_and_tolerated():
  for given in ({'accelerator': 'v4-32'}, {'gpus': 8}):
    key = 'cloud.google.com/gke-spot'
    _, _, _, pod = built(spot=True, **given)
    assert pod['nodeSelector'][key] == 'true'
    assert key in [one['key'] for one in pod['tolerations']]
    _, _, _, pod = built(**given)
    assert key not in str(pod)


def test_dry_run_is_yaml_and_says_how_to_follow(kubectl, capfd):
  code, out, err = run(capfd, *TPU, '--namespace=mine')
  assert (code, err) == (0, '')
  shown = kubernetes.manifest(
    config(accelerator='v5litepod-16', namespace='mine'), COMMAND
  )
  assert yaml.safe_load(out) == shown
  assert '# watch: kubectl --namespace=mine get jobset add --watch' in out
  assert '# delete: kubectl --namespace=mine delete jobset add' in out
  assert not kubectl.exists()


def test_execute_gives_the_manifest_to_kubectl(kubectl, capfd):
  code, out, _ = run(capfd, *TPU, '--execute')
  assert code == 0
  assert kubectl.read_text() == 'apply --filename=-\n'
  applied = yaml.safe_load(kubectl.with_suffix('.input').read_text())
  assert applied == built(accelerator='v5litepod-16')[0]
  assert [line.partition(':')[0] for line in out.splitlines()] == [
    *('watch', 'logs', 'delete')
  ]
  assert '--max-log-requests=4' in out


def test_kubectl_that_refuses(kubectl, capfd, monkeypatch):
  monkeypatch.setenv('CODE', '4')
  code, out, err = run(capfd, *TPU, '--execute')
  assert (code, out, err.count('\n')) == (1, '', 1)
  assert 'kubectl refuses the manifest (exit code 4' in err


def test_missing_kubectl(tmp_path, capfd, monkeypatch):
  monkeypatch.setenv('PATH', str(tmp_path))
  code, out, err = run(capfd, *TPU, '--execute')
  assert (code, out, err.count('\n')) == (1, '', 1)
  assert 'kubectl is not on PATH' in err


def test_xpk_command_matches_the_manifest(capfd):
  flags = ('--xpk', '--cluster=c', '--zone=z', '--project=p', '--spot')
  hard = [*COMMAND, "--x=it's $HOME"]
  code, out, _ = run(capfd, *TPU, *flags, '--slices=2', command=hard)
  assert code == 0
  golden.check('kubernetes/xpk.sh', out)
  subprocess.run(['bash', '-n'], input=out, text=True, check=True)
  words = shlex.split(out)
  given = dict(word.partition('=')[::2] for word in words[3:])
  assert words[:3] == ['xpk', 'workload', 'create']
  assert given['--tpu-type'] == 'v5litepod-16'
  assert given['--num-slices'] == '2'
  assert given['--max-restarts'] == '50'
  assert shlex.split(given['--command']) == hard
  restarts = set(map(int, given['--restart-on-exit-codes'].split(',')))
  _, _, job, _ = built(accelerator='v5litepod-16')
  final = job['podFailurePolicy']['rules'][0]['onExitCodes']['values']
  assert 75 in restarts and not restarts & set(final)


@pytest.mark.parametrize(
  ('flags', 'command', 'words'),
  [
    (('--accelerator=v5e-16',), COMMAND, 'did you mean v5litepod-16?'),
    ((), COMMAND, 'give one of --accelerator'),
    (('--accelerator=v4-8', '--gpus=8'), COMMAND, 'give one of'),
    (('--accelerator=v4-8', '--nodes=2'), COMMAND, '--nodes and --gpu_type'),
    (('--accelerator=v6e-8', '--slices=2'), COMMAND, 'v6e-8 is one host'),
    (('--gpus=8', '--slices=2'), COMMAND, '--slices is for TPUs'),
    (('--gpus=8', '--xpk', '--cluster=c'), COMMAND, '--xpk is for TPUs'),
    (('--accelerator=v4-8', '--xpk'), COMMAND, '--xpk needs --cluster'),
    (('--gpus=8', '--name=A'), COMMAND, '--name=A'),
    (('--gpus=8', '--volume=runs'), COMMAND, '--volume=runs is neither'),
    (('--gpus=8', '--mount=runs'), COMMAND, '--mount=runs is not'),
    (('--gpus=8',), COMMAND[:-1], 'has no --workdir'),
    (('--gpus=8',), [*COMMAND, '--workdir=/mnt/a'], 'is local to each pod'),
    (('--gpus=8',), [*COMMAND, '--workdir=a'], 'is relative'),
    (('--gpus=8',), [*COMMAND, '--workdir=/runs/../a'], '/a is local to each'),
    (('--gpus=8',), [], 'nothing to run'),
    (('--gpus=8',), [*COMMAND, '--cluster.rank=1'], 'leave it out'),
  ],
)
def test_bad_input_is_one_line_and_creates_nothing(
  kubectl, capfd, flags, command, words
):
  execute = () if '--xpk' in flags else ('--execute',)
  code, out, err = run(capfd, *NEEDED, *execute, *flags, command=command)
  assert (code, out, err.count('\n')) == (2, '', 1)
  assert words in err
  assert not kubectl.exists()


def test_pods_are_told_the_commit(capfd, monkeypatch):
  monkeypatch.setattr(kubernetes.commit, 'here', lambda: '1f' * 20 + '-dirty')
  _, out, _ = run(capfd, *TPU)
  (replicated,) = yaml.safe_load(out)['spec']['replicatedJobs']
  pod = replicated['template']['spec']['template']['spec']
  told = {'name': 'EXTRAP_COMMIT', 'value': '1f' * 20 + '-dirty'}
  assert told in pod['containers'][0]['env']
  _, out, _ = run(capfd, *TPU, '--xpk', '--cluster=c')
  assert f'--env=EXTRAP_COMMIT={told["value"]}' in shlex.split(out)
  monkeypatch.setattr(kubernetes.commit, 'here', lambda: None)
  assert 'EXTRAP_COMMIT' not in run(capfd, *TPU)[1]


def test_xpk_is_not_executed(kubectl, capfd):
  flags = ('--xpk', '--cluster=c', '--execute')
  code, _, err = run(capfd, *TPU, *flags)
  assert code == 2 and '--xpk is only printed' in err


def test_launchers_do_not_load_jax():
  code = (
    'import sys, launch.tpu, launch.kubernetes;'
    'sys.exit(bool({"jax", "numpy", "flax"} & set(sys.modules)))'
  )
  subprocess.run([sys.executable, '-c', code], check=True)
