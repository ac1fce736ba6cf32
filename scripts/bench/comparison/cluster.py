"""Flink: a session cluster of a JobManager and one TaskManager, and its client."""

import json
import os
import pathlib
import shutil
import subprocess
import time
import urllib.error
import urllib.request

from .broker import free_port
from .processes import Child, Helper, Trouble, run, wait_for

# From the config.yaml of Flink's distribution: what its code needs of a modular JDK.
EXPORTS = {
    "java.base": ["sun.net.util"],
    "java.rmi": ["sun.rmi.registry"],
    "jdk.compiler": [f"com.sun.tools.javac.{part}" for part in ("api", "file", "parser", "tree", "util")],
    "java.security.jgss": ["sun.security.krb5"],
}
OPENS = [
    "java.lang", "java.net", "java.io", "java.nio", "sun.nio.ch", "java.lang.reflect", "java.text", "java.time",
    "java.util", "java.util.concurrent", "java.util.concurrent.atomic", "java.util.concurrent.locks",
]  # fmt: skip
MODULES = [f"--add-exports={module}/{package}=ALL-UNNAMED" for module, packages in EXPORTS.items() for package in packages]
MODULES += [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENS]

SETTINGS = """\
jobmanager.rpc.address: 127.0.0.1
jobmanager.rpc.port: {rpc}
jobmanager.bind-host: 127.0.0.1
jobmanager.memory.process.size: 1600m
taskmanager.host: 127.0.0.1
taskmanager.bind-host: 127.0.0.1
taskmanager.memory.process.size: {memory}
taskmanager.memory.managed.fraction: {managed}
taskmanager.numberOfTaskSlots: {parallelism}
rest.address: 127.0.0.1
rest.bind-address: 127.0.0.1
rest.port: {rest}
web.submit.enable: false
blob.server.port: {blob}
io.tmp.dirs: {folder}/tmp
parallelism.default: {parallelism}
pipeline.object-reuse: true
pipeline.auto-watermark-interval: 200 ms
state.backend.type: {backend}
execution.checkpointing.interval: 1 s
execution.checkpointing.mode: EXACTLY_ONCE
execution.checkpointing.incremental: true
execution.checkpointing.dir: file://{folder}/checkpoints
execution.checkpointing.checkpoints-after-tasks-finish: true
restart-strategy.type: disable
table.local-time-zone: UTC
table.exec.mini-batch.enabled: true
table.exec.mini-batch.allow-latency: 500 ms
table.exec.mini-batch.size: 5000
table.optimizer.agg-phase-strategy: AUTO
table.optimizer.distinct-agg.split.enabled: false
"""
LOGGING = """\
rootLogger.level = WARN
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %-5p %c %m%n
"""


class Cluster:
    """A JobManager, a TaskManager and a client; stopped at the end of the `with`."""

    def __init__(self, home, folder, parallelism=2, backend="hashmap", memory="1728m"):
        self.home = home
        self.folder = pathlib.Path(folder) / "flink"
        first = free_port(3)
        self.rest = f"http://127.0.0.1:{first}"
        # With this backend state is on the heap, which gets half of what RocksDB would have; windows buffer in the rest.
        managed = 0.2 if backend == "hashmap" else 0.4
        places = {"rest": first, "rpc": first + 1, "blob": first + 2, "folder": self.folder}
        self.settings = SETTINGS.format(
            parallelism=parallelism, backend=backend, memory=memory, managed=managed, **places
        )
        self.parallelism = parallelism
        self.children = []

    def __enter__(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "conf").mkdir(parents=True)
        (self.folder / "tmp").mkdir()
        (self.folder / "conf" / "config.yaml").write_text(self.settings)
        (self.folder / "conf" / "log4j.properties").write_text(LOGGING)
        try:
            package = "org.apache.flink.runtime"
            session = f"{package}.entrypoint.StandaloneSessionClusterEntrypoint"
            self.master = self.start("JM", session, "--executionMode", "cluster")
            self.worker = self.start("TM", f"{package}.taskexecutor.TaskManagerRunner")
            conf = self.folder / "conf"
            options = [*MODULES, f"-Dlog4j.configurationFile={conf / 'log4j.properties'}"]
            self.client = Helper(
                "Submit.java", f"{self.home}/lib/*", [conf], self.folder / "client.log", java=options,
                environment={"FLINK_CONF_DIR": str(conf)},
            )  # fmt: skip
            self.children.append(self.client)
            wait_for(self.has_slots, "Flink's cluster", 400, self.master, self.worker)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for child in reversed(self.children):
            child.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, role, main, *arguments):
        """As bin/jobmanager.sh and bin/taskmanager.sh do: memory is reckoned by Flink, the collector is G1."""
        conf = self.folder / "conf"
        reckoner = [f"{self.home}/bin/bash-java-utils.jar", *(str(jar) for jar in (self.home / "lib").glob("flink-dist-*.jar"))]
        reckoner += [str(jar) for jar in (self.home / "lib").glob("log4j-*.jar")]
        said = run(
            ["java", "-cp", ":".join(reckoner), "org.apache.flink.runtime.util.bash.BashJavaUtils",
             f"GET_{role}_RESOURCE_PARAMS", "--configDir", conf], "reckoning Flink's memory",
        )  # fmt: skip
        marker = "BASH_JAVA_UTILS_EXEC_RESULT:"
        results = [line[len(marker) :].split() for line in said.splitlines() if line.startswith(marker)]
        if len(results) != 2:
            raise Trouble(f"Flink's reckoning of memory is not understood:\n{said}")
        jvm, dynamic = results
        options = ["-XX:+UseG1GC", *MODULES, f"-Dlog4j.configurationFile={conf / 'log4j.properties'}"]
        command = ["java", *jvm, *options, "-cp", f"{self.home}/lib/*", main, "--configDir", conf, *arguments, *dynamic]
        child = Child(command, self.folder / f"{role}.log", env={**os.environ, "FLINK_CONF_DIR": str(conf)})
        self.children.append(child)
        return child

    def ask(self, path):
        """An answer of the REST interface."""
        with urllib.request.urlopen(self.rest + path, timeout=10) as answer:
            return json.load(answer)

    def has_slots(self):
        try:
            return self.ask("/overview")["slots-available"] == self.parallelism
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def processes(self):
        """Those whose CPU time and memory count: the client plans in a process of its own and is left out."""
        return [self.master, self.worker]

    def run(self, sql, name, seconds):
        """Runs a job to its end; its wall time by the JobManager's clock, CPU time and peak of memory."""
        file = self.folder / f"{name}.sql"
        file.write_text(sql)
        for process in self.processes():
            process.forget_peak()
        before = sum(process.cpu() for process in self.processes())
        [job] = self.client.ask("run", file)
        state = wait_for(lambda: self.ended(job), f"Flink's job {name}", seconds, *self.processes())
        cpu = sum(process.cpu() for process in self.processes()) - before
        peak = sum(process.peak() for process in self.processes())
        if state["state"] != "FINISHED":
            raise Trouble(f"Flink's job {name} is {state['state']}:\n{self.causes(job)}")
        return {"wall": (state["end-time"] - state["start-time"]) / 1000, "cpu": cpu, "peak": peak}

    def ended(self, job):
        state = self.ask(f"/jobs/{job}")
        time.sleep(0.05)
        return state if state["state"] in ("FINISHED", "FAILED", "CANCELED") else None

    def causes(self, job):
        """Why a job has failed, without the places in Flink's code."""
        traces = [entry["stacktrace"] for entry in self.ask(f"/jobs/{job}/exceptions")["exceptionHistory"]["entries"]]
        return "\n".join(line for trace in traces for line in trace.splitlines() if not line.startswith(("\tat ", "\t...")))

    def explain(self, sql):
        """The plan of a query."""
        file = self.folder / "explained.sql"
        file.write_text(sql)
        self.client.ask("explain", file)
        return self.client.tail()


def java_version():
    """The first line of what Java says of itself."""
    return subprocess.run(["java", "-version"], capture_output=True, text=True, check=True).stderr.splitlines()[0]
