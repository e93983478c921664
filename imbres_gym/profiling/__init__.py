"""Offline profiling: what a microservice's latency becomes under load and interference, measured before a run."""
