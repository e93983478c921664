"""Simulated clusters: engines, containers, interference, workload, pod scheduling."""
