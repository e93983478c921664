"""A real Kubernetes cluster of three nodes on one machine: `python3 -m scripts.testbed up|down|status|stress`."""
