"""Erms (ASPLOS'23): latency targets per microservice from interference-dependent latency profiles."""
