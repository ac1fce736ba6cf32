"""A Kafka broker of one's own, and its topics."""

import os
import pathlib
import shutil
import socket

from .processes import REPOSITORY, Helper, Trouble, run

KAFKA = REPOSITORY / "scripts" / "kafka.sh"
PARTITIONS = 2


def free_port(count=1):
    """The first of some ports in a row that nobody has on loopback now."""
    for first in range(29700, 32000, 10):
        taken = []
        try:
            for port in range(first, first + count):
                listener = socket.socket()
                taken.append(listener)
                listener.bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
        finally:
            for listener in taken:
                listener.close()
    raise Trouble("no free ports on loopback")


class Broker:
    """Stopped, and its data deleted, at the end of the `with`."""

    def __init__(self, jars, folder):
        self.folder = pathlib.Path(folder) / "kafka"
        self.jars = jars
        self.port = free_port(2)
        self.servers = f"127.0.0.1:{self.port}"
        self.topics = None

    def __enter__(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        owner = ["--owner", os.getpid()]
        environment = {**os.environ, "KAFKA_JVM_OPTS": "-Xmx768m"}
        run([KAFKA, "start", "--dir", self.folder, "--port", self.port, *owner], "Kafka", env=environment)
        try:
            self.topics = Topics(self.servers, self.jars, self.folder.parent / "topics.log")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.topics.stop()
        self.stop()

    def stop(self):
        run([KAFKA, "stop", "--dir", self.folder], "stopping Kafka")
        shutil.rmtree(self.folder, ignore_errors=True)


class Topics(Helper):
    """Makes topics and reads what is in them, with Kafka's own client."""

    def __init__(self, servers, jars, log):
        logging = f"-Dlog4j2.configurationFile={REPOSITORY / 'scripts' / 'kafka' / 'log4j2.properties'}"
        super().__init__("Topics.java", f"{jars}/*", [servers], log, java=[logging])

    def create(self, topic, partitions=PARTITIONS, **settings):
        """Makes a topic; settings are the broker's, with underscores for dots."""
        self.ask("create", topic, partitions, *(f"{name.replace('_', '.')}={value}" for name, value in settings.items()))

    def delete(self, topic):
        self.ask("delete", topic)

    def times(self, topic, file):
        """How many records there are, by partition and millisecond of their timestamps."""
        self.ask("times", topic, file)
        rows = (line.split("\t") for line in pathlib.Path(file).read_text().splitlines())
        return {(int(partition), int(time)): int(count) for partition, time, count in rows}

    def digest(self, topic, file="-"):
        """The number of committed rows, and a hash that does not depend on their order."""
        rows, hashed = self.ask("digest", topic, file)
        return int(rows), hashed
