"""Alibaba's clusters: its public traces as scenarios, and applications and interference generated after its statistics.

`docs/alibaba.md` is the manual page.
"""
