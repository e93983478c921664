"""The oracle: the least containers that meet the SLA, found by an agentless search that knows the simulator."""
