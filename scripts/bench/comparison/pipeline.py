"""Acequia: the binary, and runs of it."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

from . import processes
from .processes import REPOSITORY, Trouble, ends_with_us


def build(profile):
    """Builds the binary and the bench `pipeline`, which holds the bare loop; their paths."""
    target = os.environ.get("CARGO_TARGET_DIR") or os.environ.get("ACEQUIA_TARGET_DIR", "/var/tmp/acequia-target")
    print(f"building with profile {profile} in {target}", file=sys.stderr)
    command = ["cargo", "bench", "--locked", "--profile", profile, "--bench", "pipeline", "--no-run"]
    done = subprocess.run(
        [*command, "--message-format", "json-render-diagnostics"],
        cwd=REPOSITORY, env={**os.environ, "CARGO_TARGET_DIR": target}, stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise Trouble(f"{' '.join(command)} failed")
    built = {}
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("reason") == "compiler-artifact" and message.get("executable"):
            built[message["target"]["name"]] = pathlib.Path(message["executable"])
    return built["acequia"], built["pipeline"]


class Acequia:
    """Every run is a process of its own, with an empty data folder."""

    def __init__(self, binary, folder, parallelism=2):
        self.binary = pathlib.Path(binary).resolve()
        self.folder = pathlib.Path(folder) / "acequia"
        self.parallelism = parallelism

    def version(self):
        return processes.run([self.binary, "--version"], f"{self.binary} --version").strip()

    def run(self, sql, name, seconds, environment, arguments=()):
        """Runs SQL text to the end of its input; wall time of the process, CPU time, peak of memory."""
        shutil.rmtree(self.folder, ignore_errors=True)
        program = self.folder / "program"
        program.mkdir(parents=True)
        (program / f"{name}.sql").write_text(sql)
        command = [self.binary, "run", program, "--bounded", "--no-http", "--no-page", "--name", f"bench-{name}"]
        command += ["--data-dir", self.folder / "data", "--parallelism", self.parallelism, *arguments]
        return self.measure(command, f"acequia's run of {name}", seconds, environment)

    def measure(self, command, what, seconds, environment=None):
        """Runs a command to its end and takes what the kernel says that it has used."""
        log = self.folder.with_suffix(".log")
        env = {**os.environ, "RUST_LOG": "warn", "NO_COLOR": "1", **(environment or {})}
        with open(log, "wb") as out:
            began = time.monotonic()
            process = subprocess.Popen(
                [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env,
                preexec_fn=ends_with_us,
            )  # fmt: skip
        try:
            usage, wall = self.wait(process, began, what, seconds)
        finally:
            if process.returncode is None:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        if process.returncode != 0:
            said = log.read_text(errors="replace")[-3000:]
            raise Trouble(f"{what} ended with {process.returncode}:\n{said}")
        return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "peak": usage.ru_maxrss / 1024}

    @staticmethod
    def wait(process, began, what, seconds):
        """`wait4` gives what all its threads have used; SIGALRM is the patience."""

        def too_long(*_):
            raise Trouble(f"{what} has not ended within {seconds} s")

        before = signal.signal(signal.SIGALRM, too_long)
        signal.alarm(seconds)
        try:
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.monotonic() - began
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
        process.returncode = os.waitstatus_to_exitcode(status)
        return usage, wall
