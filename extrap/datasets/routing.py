"""Language models with experts: 223 runs of 15M to 1.3B dense parameters.

Losses on six texts every 10,000 steps, before training too; a few are missing.
Runs of one size of model, with different routers and numbers of experts, are a
task, for they hardly differ in form.

Source: Clark et al. 2022, Unified scaling laws for routed language models
(arXiv 2202.01169); google-deepmind/scaling_laws_for_routing.
"""

import csv
import gzip
import itertools
import math
from collections.abc import Iterator
from pathlib import Path

from extrap.datasets.curve_builder import CurveBuilder, configs
from extrap.datasets.curve_files import Source
from extrap.datasets.curve_set import Run

SOURCE = Source(
  name='routing',
  repository='google-deepmind/scaling_laws_for_routing',
  commit='42da0c392b127df2c01fa7b705f72396050d05e5',
  below='data',
  licence='CC BY 4.0',
  citation='Clark et al. 2022, arXiv 2202.01169',
  metrics=(
    'validation',
    'c4',
    'curation_corpus',
    'lambada',
    'pile',
    'wikitext103',
  ),
  setting=(
    'num_experts',
    'd_model',
    'num_blocks',
    'num_heads',
    'kqv_size',
    'flop_increase',
    'k',
    'seed',
    'routing_frequency',
    'total_parameter_count',
    'dense_parameter_count',
    'flops_per_step',
  ),
)


def read(folder: Path, metric: str) -> Iterator[Run]:
  """Runs in the order of the table.

  Args:
    folder: with curves.csv.gz, one row a run and step.
    metric: the text whose loss is meant.
  """
  with gzip.open(folder / 'curves.csv.gz', 'rt', encoding='utf-8') as file:
    table = csv.DictReader(file)
    for number, group in itertools.groupby(table, lambda row: row['hyper_id']):
      rows = list(group)
      first = rows[0]
      size, router = first['model_size_label'], first['router_type']
      yield Run(
        task=size,
        name=f'{size}/{router}-{first["num_experts"]}/{number}',
        step=[float(row['step']) for row in rows],
        value=[float(row[f'loss_{metric}'] or math.nan) for row in rows],
        setting={key: float(first[key]) for key in SOURCE.setting},
      )


class Routing(CurveBuilder):
  """Losses of 223 runs, a configuration a text."""

  SOURCE = SOURCE
  BUILDER_CONFIGS = configs(SOURCE)
