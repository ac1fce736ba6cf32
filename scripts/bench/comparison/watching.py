"""A Redis server of one's own, and a reader that is told of each value."""

import json
import pathlib
import shutil
import socket
import threading
import time

from .broker import free_port
from .processes import REPOSITORY, Trouble, run

REDIS = REPOSITORY / "scripts" / "redis.sh"


class Redis:
    """Stopped at the end of the `with`."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder) / "redis"
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"

    def __enter__(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        run([REDIS, "start", "--dir", self.folder, "--port", self.port], "Redis")
        return self

    def __exit__(self, *_):
        run([REDIS, "stop", "--dir", self.folder], "stopping Redis")
        shutil.rmtree(self.folder, ignore_errors=True)


class Connection:
    """As much of Redis' protocol as is needed here."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = self.socket.makefile("rb")

    def ask(self, *words):
        parts = [str(word).encode() for word in words]
        text = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        self.socket.sendall(text)
        return self.answer()

    def answer(self):
        line = self.stream.readline()
        if not line:
            raise ConnectionError("Redis has closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise Trouble(f"Redis says {rest.decode()}")
        if kind == b"$":
            length = int(rest)
            return None if length < 0 else self.stream.read(length + 2)[:-2]
        if kind == b"*":
            return [self.answer() for _ in range(int(rest))]
        return rest

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


class Reader:
    """Notes each value of keys with a prefix as soon as it can be read, and when that was (milliseconds since 1970)."""

    def __init__(self, port, prefix):
        self.seen = []
        self.told, self.asking = Connection(port), Connection(port)
        self.asking.ask("CONFIG", "SET", "notify-keyspace-events", "K$")
        self.told.ask("PSUBSCRIBE", f"__keyspace@0__:{prefix}*")
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        try:
            while True:
                channel = self.told.answer()[2]
                key = channel.decode().split(":", 1)[1]
                value = self.asking.ask("GET", key)
                if value is not None:
                    self.seen.append((time.time() * 1000, key, json.loads(value)))
        except (ConnectionError, OSError, ValueError):
            return

    def stop(self):
        """What was seen."""
        self.told.close()
        self.thread.join(5)
        return self.seen
