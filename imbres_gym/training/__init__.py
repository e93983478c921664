"""Training of learned tiers: recipes, segments that can be resumed, early evaluation, export as bundles."""
