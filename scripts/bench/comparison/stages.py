"""Stacks to stages: which part of the pipeline a sample belongs to."""

import collections
import re

# From the innermost function of a stack outwards, the first that one of these knows decides.
RULES = [
    # librdkafka and its compression, before the threads' names: a client may both read and write.
    (r"rd_kafka_msgset_reader|rd_kafka_fetch|rd_kafka_.*[Ff]etch|rd_kafka_handle_Fetch|LZ4F?_decompress|rd_kafka_transport_recv|rd_kafka_recv", "fetch"),
    (r"rd_kafka_msgset_writer|rd_kafka_.*[Pp]roduce|rd_kafka_txn|LZ4F?_compress|rd_kafka_transport_send|rd_kafka_msg_partitioner", "sink"),
    # Formats: reading records, and writing them.
    (r"acequia::formats::(json::)?(decode|cursor|keys|database|column|number|raw::RawDecoder|iso8601::parse)", "decode"),
    (r"acequia::formats::(cells|json::encode|raw::RawEncoder|iso8601::write)", "sink"),
    (r"acequia::formats", "decode"),
    (r"acequia::connectors::kafka::(producer|sink|epoch_sink|transaction|progress|rows)", "sink"),
    (r"acequia::connectors::delivery|acequia::dataflow::(deliverer|sink_task)", "sink"),
    (r"acequia::connectors::kafka", "fetch"),
    (r"acequia::checkpoint|acequia::dataflow::(checkpointer|outbox|compactor|coordinator|audit|gate)", "checkpoint"),
    (r"acequia::dataflow::(exchange|channel)", "exchange"),
    (r"datafusion_functions_aggregate|datafusion_physical_plan::aggregates|datafusion_expr_common::groups_accumulator", "grouping"),
    (r"acequia::operators::(map|subplan)", "expression"),
    (r"acequia::operators", "grouping"),
    (r"datafusion_physical_expr|datafusion_functions|datafusion_physical_plan::(projection|filter|unnest)", "expression"),
    (r"acequia::dataflow::(source_watermark|source_task|reader|chain)", "source task"),
    (r"acequia::(planner|program|sql|catalog|cli)|datafusion_optimizer|sqlparser", "start-up"),
    (r"acequia::dataflow", "tasks"),
    (r"tokio::runtime|tokio::sync|futures_util", "runtime"),
]  # fmt: skip
RULES = [(re.compile(pattern), stage) for pattern, stage in RULES]
# What is in no stage's function: by the name of its thread.
THREADS = [(re.compile(r"^rdk:"), "fetch or sink"), (re.compile(r"^tokio"), "runtime")]
STAGES = [
    "fetch", "decode", "source task", "expression", "grouping", "exchange", "checkpoint", "sink", "fetch or sink", "tasks",
    "runtime", "start-up", "other",
]  # fmt: skip
FRAME = re.compile(r"^\s+[0-9a-f]+ (.*)$")


class Profile:
    """Samples of one run."""

    def __init__(self, name, script):
        self.name = name
        self.samples = collections.Counter()
        self.inner = collections.defaultdict(collections.Counter)
        thread, frames = "", []
        for line in [*script.splitlines(), ""]:
            frame = FRAME.match(line)
            if frame and thread:
                frames.append(frame.group(1))
            elif line.strip():
                thread = line.strip()
            elif thread:
                self.count(thread, frames)
                thread, frames = "", []
        self.total = sum(self.samples.values())

    def count(self, thread, frames):
        stage = stage_of(thread, frames)
        self.samples[stage] += 1
        self.inner[stage][frames[0] if frames else "?"] += 1

    def functions(self, count):
        """The functions in which most of each stage's samples lie, as Markdown."""
        if count == 0:
            return ""
        lines = [f"\n{self.name}, {self.total:,} samples:\n"]
        for stage in STAGES:
            for function, samples in self.inner[stage].most_common(count):
                lines.append(f"- {stage}: {samples / self.total:.1%} `{function[:120]}`")
        return "\n".join(lines) + "\n"


def stage_of(thread, frames):
    """The stage of a sample, by its stack from the innermost function on, else by its thread."""
    for frame in frames:
        for pattern, stage in RULES:
            if pattern.search(frame):
                return stage
    for pattern, stage in THREADS:
        if pattern.search(thread):
            return stage
    return "other"


def table(profiles):
    """Shares by stage, a column a query."""
    lines = [
        "| stage | " + " | ".join(profile.name for profile in profiles) + " |",
        "|---|" + "--:|" * len(profiles),
    ]
    for stage in STAGES:
        if any(profile.samples[stage] for profile in profiles):
            shares = (f"{profile.samples[stage] / max(profile.total, 1):.1%}" for profile in profiles)
            lines.append(f"| {stage} | " + " | ".join(shares) + " |")
    lines.append("| samples | " + " | ".join(f"{profile.total:,}" for profile in profiles) + " |")
    return "\n".join(lines) + "\n"
