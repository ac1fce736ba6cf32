"""Processes that are started here: what they use, and that they end."""

import ctypes
import os
import pathlib
import signal
import subprocess
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
TICKS = os.sysconf("SC_CLK_TCK")
PR_SET_PDEATHSIG = 1


class Trouble(Exception):
    """What keeps a benchmark from going on, for the person who runs it."""


def ends_with_us():
    """In a new child: it gets SIGKILL when this process ends without having stopped it."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def run(command, what, **options):
    """Runs a command to its end; its output is part of the error if it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise Trouble(f"{what} failed ({done.returncode}):\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout


class Child:
    """A process in the background, with a log of its own."""

    def __init__(self, command, log, **options):
        self.log = pathlib.Path(log)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "wb") as out:
            options = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": out, **options}
            self.process = subprocess.Popen(
                [str(word) for word in command], start_new_session=True, preexec_fn=ends_with_us, **options
            )
        self.pid = self.process.pid

    def check(self, what):
        """Raises Trouble if it has ended."""
        if self.process.poll() is not None:
            raise Trouble(f"{what} ended ({self.process.returncode}); the end of {self.log}:\n{self.tail()}")

    def tail(self):
        return self.log.read_text(errors="replace")[-3000:]

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()

    def cpu(self):
        """Seconds of all cores so far, user and system, of all its threads."""
        stat = pathlib.Path(f"/proc/{self.pid}/stat").read_text()
        fields = stat.rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def forget_peak(self):
        """Lets the kernel note the peak of memory anew."""
        pathlib.Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def peak(self):
        """The most resident memory since then, in MB."""
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        raise Trouble(f"process {self.pid} has no VmHWM")


class Helper(Child):
    """A JVM that takes commands on its stdin and answers each in a line (Topics.java, Submit.java)."""

    def __init__(self, program, class_path, arguments, log, java=(), environment=None):
        here = pathlib.Path(__file__).parent
        command = ["java", "-Xmx768m", "-XX:+UseSerialGC", *java, "-cp", class_path, here / program, *arguments]
        env = {**os.environ, **(environment or {})}
        super().__init__(command, log, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        self.name = program

    def ask(self, *words):
        """The words of the answer."""
        try:
            self.process.stdin.write("\t".join(str(word) for word in words) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        while True:
            line = self.process.stdout.readline()
            if not line:
                self.process.wait(10)
                self.check(self.name)
            answer = line.rstrip("\n").split("\t")
            if answer[0] == "ok":
                return answer[1:]
            if answer[0] == "error":
                raise Trouble(f"{self.name}: {' '.join(str(word) for word in words)}: {answer[1]}")


def wait_for(condition, what, seconds, *children):
    """Waits until a condition holds, or raises Trouble."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        for child in children:
            child.check(what)
        if time.monotonic() > deadline:
            tails = "\n".join(child.tail() for child in children)
            raise Trouble(f"{what}: not within {seconds} s\n{tails}")
        time.sleep(0.05)
    return value
