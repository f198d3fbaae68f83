"""Evaluation: how far beyond its training region a model still works."""

from extrap.evaluation.certificate import certify
from extrap.evaluation.decoding import greedy_decode
from extrap.evaluation.exact_match import exact_match
from extrap.evaluation.grid import Suite, evaluate
from extrap.evaluation.statistics import across_replicas, wilson

__all__ = [
  'Suite',
  'across_replicas',
  'certify',
  'evaluate',
  'exact_match',
  'greedy_decode',
  'wilson',
]
