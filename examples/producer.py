#!/usr/bin/env python3
"""Submits a job by the queue, with nothing but the standard library: REDIS_URL=redis://… producer.py "a prompt"."""
import json
import os
import socket
import ssl
import sys
import uuid
from urllib.parse import unquote, urlparse


def command(connection, *parts):
    """One command of Redis' protocol, and the first line of its answer."""
    message = b"*%d\r\n" % len(parts)
    for part in parts:
        data = part.encode()
        message += b"$%d\r\n%s\r\n" % (len(data), data)
    connection.sendall(message)
    answer = b""
    while not answer.endswith(b"\r\n"):
        received = connection.recv(4096)
        if not received:
            raise ConnectionError("Redis closed the connection")
        answer += received
    if answer.startswith(b"-"):
        raise RuntimeError(answer[1:].decode().strip())
    return answer[1:].decode().strip()


def main(prompt):
    address = urlparse(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379"))
    job = {
        "id": str(uuid.uuid4()),
        "type": "sdxl_image_fast",
        "prompt": prompt,
        "user_id": os.environ.get("USER_ID", "00000000-0000-4000-8000-000000000001"),
        "config": {"num_images": 1},
    }
    with socket.create_connection((address.hostname, address.port or 6379), timeout=10) as plain:
        connection = plain
        if address.scheme == "rediss":
            connection = ssl.create_default_context().wrap_socket(plain, server_hostname=address.hostname)
        if address.password:
            user = [unquote(address.username)] if address.username else []
            command(connection, "AUTH", *user, unquote(address.password))
        waiting = command(connection, "LPUSH", "sdxl_queue", json.dumps(job))
    print(job["id"])
    print(f"{waiting} waiting", file=sys.stderr)


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]) or "a red circle above a blue square")
