"""Samples to medians, a table in Markdown and JSON."""

import json
import os
import pathlib
import platform
import statistics
import subprocess
import time

from . import install
from .cluster import java_version
from .processes import REPOSITORY, Trouble

DOCS = REPOSITORY / "docs" / "benchmarks.md"
BEGIN, END = "<!-- scripts/bench/flink writes from here -->", "<!-- to here -->"


def said(*command):
    """The first line that a command says, or nothing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    except OSError:
        return ""
    return (done.stdout.splitlines() or [""])[0]


def surroundings(acequia):
    """Where and with what this is measured."""
    models = [line for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "date": time.strftime("%d %B %Y, %H:%M UTC", time.gmtime()),
        "processor": models[0].split(": ", 1)[1] if models else platform.processor(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "load": os.getloadavg()[0],
        "acequia": f"{acequia.version()} at {said('git', 'describe', '--always', '--dirty')}",
        "rustc": said("rustc", "--version"),
        "flink": install.FLINK,
        "connector": install.CONNECTOR,
        "java": java_version(),
    }


class Spread:
    """A median, and the lowest and the highest."""

    def __init__(self, values):
        self.median, self.low, self.high = statistics.median(values), min(values), max(values)

    def text(self, form):
        return f"{form(self.median)} ({form(self.low)}–{form(self.high)})"


def summary(samples, events, engine):
    """Medians of an engine at a query: whole runs, and these less the run over empty topics of the same repeat."""
    runs = [(repeat[engine], repeat[f"{engine}-empty"]) for repeat in samples]
    million = events / 1e6
    return {
        "rate": Spread([events_a_second(events, full["wall"] - empty["wall"]) for full, empty in runs]),
        "cpu": Spread([(full["cpu"] - empty["cpu"]) / million for full, empty in runs]),
        "whole_cpu": Spread([full["cpu"] / million for full, _ in runs]),
        "whole_wall": Spread([full["wall"] for full, _ in runs]),
        "peak": Spread([full["peak"] for full, _ in runs]),
    }


def events_a_second(events, wall):
    """0 if a run takes hardly longer than one without events: then it is too short to say anything."""
    return events / wall if wall > 0.05 else 0


def rate(value):
    return f"{value / 1e3:,.0f} k" if value > 0 else "–"


def seconds(value):
    return f"{value:.2f}"


def megabytes(value):
    return f"{value:,.0f}"


def times(more, less):
    return f"{more / less:.1f}" if less > 0 and more > 0 else "–"


def tables(data):
    """The results as Markdown."""
    place, settings = data["surroundings"], data["settings"]
    lines = [
        f"{place['date']}: {place['processor']}, {place['cores']} cores, Linux {place['kernel']}, load {place['load']:.1f} at",
        f"the start. {place['acequia']}, {place['rustc']}; Flink {place['flink']} with {place['connector']} on {place['java']},",
        f"state backend {settings['backend']}. Parallelism {settings['parallelism']}, {settings['repeats']} repeats; median (lowest–highest).",
        "",
        "| query | events | rows | Acequia, events/s | Flink, events/s | Acequia, CPU s per million | Flink, CPU s per million | CPU: Flink / Acequia | with start-up | Acequia, MB | Flink, MB | memory: Flink / Acequia |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for query in data["queries"]:
        ours = summary(query["samples"], query["events"], "acequia")
        theirs = summary(query["samples"], query["events"], "flink") if "flink" in query["samples"][0] else None
        lines.append(row(query, ours, theirs))
    if any("bare" in repeat for query in data["queries"] for repeat in query["samples"]):
        lines += ["", *bare(data)]
    return "\n".join(lines) + "\n"


def row(query, ours, theirs):
    """A line of the table; Flink's cells are empty if only Acequia was measured."""
    pairs = [
        (ours["rate"].text(rate), theirs and theirs["rate"].text(rate)),
        (ours["cpu"].text(seconds), theirs and theirs["cpu"].text(seconds)),
        (theirs and f"**{times(theirs['cpu'].median, ours['cpu'].median)}**",
         theirs and times(theirs["whole_cpu"].median, ours["whole_cpu"].median)),
        (megabytes(ours["peak"].median), theirs and megabytes(theirs["peak"].median)),
        (theirs and f"**{times(theirs['peak'].median, ours['peak'].median)}**",),
    ]  # fmt: skip
    cells = [query["name"], f"{query['events']:,}", f"{query['rows']:,}", *(cell or "" for pair in pairs for cell in pair)]
    return f"| {' | '.join(cells)} |"


def bare(data):
    """Acequia beside its own source and decoder with nothing behind them."""
    lines = [
        "The limit: the source and the decoder of the same plan, and nothing behind them.",
        "",
        "| query | bare loop, events/s | bare loop, CPU s per million | Acequia's rate of it | Acequia's CPU, times of it |",
        "|---|--:|--:|--:|--:|",
    ]
    for query in data["queries"]:
        if all("bare" in repeat for repeat in query["samples"]):
            ours = summary(query["samples"], query["events"], "acequia")
            rates = Spread([repeat["bare"]["events"] / repeat["bare"]["wall"] for repeat in query["samples"]])
            cpu = Spread([repeat["bare"]["cpu"] / repeat["bare"]["events"] * 1e6 for repeat in query["samples"]])
            share = ours["rate"].median / rates.median
            lines.append(
                f"| {query['name']} | {rates.text(rate)} | {cpu.text(seconds)} | {share:.0%} "
                f"| {times(ours['cpu'].median, cpu.median)} |"
            )
    return lines


def save(data, folder):
    """Results as JSON and as Markdown."""
    folder = pathlib.Path(folder)
    (folder / "results.json").write_text(json.dumps(data, indent=1) + "\n")
    (folder / "results.md").write_text(tables(data))


def write_docs(data):
    """Puts the tables between the two markers of docs/benchmarks.md."""
    text = DOCS.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise Trouble(f"{DOCS} lacks the markers {BEGIN!r} and {END!r}")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    DOCS.write_text(f"{before}{BEGIN}\n\n{tables(data)}\n{END}{after}")
