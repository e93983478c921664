"""Run inside a pod's network namespace: listens on ports, connects to an address many times, prints who answered."""

from __future__ import annotations

import collections
import json
import socket
import sys
import threading


def serve(port: int) -> None:
    """Answer every connection with the port's number."""
    server = socket.create_server(("127.0.0.1", port), backlog=512)

    def run() -> None:
        while True:
            connection, _ = server.accept()
            with connection:
                connection.sendall(str(port).encode())

    threading.Thread(target=run, daemon=True).start()


def main(address: str, port: int, count: int, listen: list[int]) -> None:
    """Count the answers of `count` connections."""
    for number in listen:
        serve(number)
    answers: collections.Counter[str] = collections.Counter()
    for _ in range(count):
        try:
            with socket.create_connection((address, port), timeout=2.0) as connection:
                answers[connection.recv(16).decode()] += 1
        except OSError as error:
            answers[type(error).__name__] += 1
    print(json.dumps(answers))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), [int(word) for word in sys.argv[4:]])
