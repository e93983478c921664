"""`python3 -m scripts.testbed check|up|down|status|stress|kill|start`: three nodes on this machine, as root."""

from __future__ import annotations

import argparse
import sys

from scripts.testbed import bed, nodes, processes, stress
from scripts.testbed.layout import NODES, node_named
from scripts.testbed.steps import BedError


def main() -> int:
    """Run the command that the command line names; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python3 -m scripts.testbed", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="say whether it can run here; exit code 1 if not")
    commands.add_parser("up", help="build what is not in the cache, and start everything")
    commands.add_parser("down", help="stop everything, and leave nothing behind")
    commands.add_parser("status", help="say how it is; exit code 1 if not all is well")
    noise = commands.add_parser("stress", help="run a best-effort job on a node: interference")
    noise.add_argument("node", choices=[node.name for node in NODES])
    amount = noise.add_mutually_exclusive_group(required=True)
    amount.add_argument("--cores", type=float, help="CPU that the job may use")
    amount.add_argument("--off", action="store_true", help="end the job")
    for name, text in (("kill", "kill a program or a whole node, to see what happens"), ("start", "start it again")):
        command = commands.add_parser(name, help=text)
        command.add_argument("name", help="a node, or a program as in `status`, such as prometheus or node2/kubelet")
    options = parser.parse_args()
    try:
        return _run(options)
    except BedError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace) -> int:
    if options.command == "check":
        bed.check()
    elif options.command == "up":
        bed.up()
    elif options.command == "down":
        bed.down()
    elif options.command == "status":
        return 0 if bed.status() else 1
    elif options.command == "stress":
        node = node_named(options.node)
        assert node is not None  # argparse checked it
        if options.off:
            stress.stop(node)
        else:
            stress.start(node, options.cores)
    else:
        _kill_or_start(options.command, options.name)
    return 0


def _kill_or_start(command: str, name: str) -> None:
    node = node_named(name)
    if node is not None:
        (nodes.crash if command == "kill" else nodes.revive)(node)
    else:
        (processes.kill if command == "kill" else processes.restart)(name)


if __name__ == "__main__":
    sys.exit(main())
