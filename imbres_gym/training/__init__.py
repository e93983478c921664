"""Training of learned tiers: recipes, segments that can be resumed, early evaluation, export as bundles."""

TRAINING_SEED = 3000
"""Usual and smallest seed of a training run; here, so that the command line has it without loading anything else."""
