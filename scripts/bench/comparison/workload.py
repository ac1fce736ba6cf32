"""What is measured: queries, the topics that they read, and how those are filled."""

import dataclasses
import math
import pathlib
import string

from .processes import Trouble

QUERIES = pathlib.Path(__file__).resolve().parents[1] / "queries"
# Of fifty events in a Nexmark stream so many are bids.
BIDS_IN_FIFTY = 46


@dataclasses.dataclass(frozen=True)
class Query:
    """One question, asked in both dialects (queries/acequia, queries/flink)."""

    name: str
    topics: tuple
    # Columns that may differ by so much: the engines round averages of decimals at another place.
    rounded: dict = dataclasses.field(default_factory=dict)

    def acequia(self):
        """The program; it takes BROKER, SUFFIX and RESULTS from the environment."""
        return self.text("acequia")

    def flink(self, broker, results, suffix):
        """The statements. Consumer and producer have the settings that Acequia's have where Flink's own are worse."""
        both = {"connector": "kafka", "properties.bootstrap.servers": broker, "format": "json"}
        both["json.timestamp-format.standard"] = "ISO-8601"
        source = {**both, "scan.startup.mode": "earliest-offset", "scan.bounded.mode": "latest-offset"}
        sink = {
            **both,
            "topic": results,
            "json.encode.decimal-as-plain-number": "true",
            "sink.delivery-guarantee": "exactly-once",
            "sink.transactional-id-prefix": results,
            "properties.transaction.timeout.ms": "600000",
            "properties.compression.type": "lz4",
            "properties.linger.ms": "10",
            "properties.batch.size": "1000000",
        }
        return string.Template(self.text("flink")).substitute(SOURCE=options(source), SINK=options(sink), SUFFIX=suffix)

    def text(self, engine):
        return "\n".join((QUERIES / engine / f"{part}.sql").read_text() for part in ("tables", self.name))


def options(values):
    return ", ".join(f"'{name}' = '{value}'" for name, value in values.items())


SHOP = ("transactions",)
BIDS = ("bid",)
ALL = [
    Query("shop_totals", SHOP, {"avg_transaction_value": 0.01}),
    Query("shop_categories", SHOP, {"avg_category_value": 0.01}),
    Query("q0", BIDS),
    Query("q1", BIDS),
    Query("q2", BIDS),
    Query("q5", BIDS),
    Query("q7", BIDS),
    Query("q8", ("person", "auction")),
    Query("q11", BIDS),
    Query("q12", BIDS),
    Query("q14", BIDS),
    Query("q21", BIDS),
    Query("q22", BIDS),
]


def chosen(names):
    """The queries of these names, or all."""
    by_name = {query.name: query for query in ALL}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise Trouble(f"no such query: {', '.join(unknown)}; there are {', '.join(by_name)}")
    return [by_name[name] for name in names] if names else ALL


def fill(acequia, broker, queries, events):
    """Makes the topics of some queries, each also without events; how many events are in each.

    Acequia's generators write them, once, so that both engines read the same records.
    """
    topics = sorted({topic for query in queries for topic in query.topics})
    for topic in topics:
        broker.topics.create(topic)
        broker.topics.create(f"{topic}-empty")
    for topic in topics:
        if topic == "transactions":
            # 5,000 a second of event time.
            arguments = ["--rate", 5000, "--start", "2026-01-01", "--seed", 7, "--transactions", 1, "--events", events]
            command = [acequia.binary, "generate", "--to", f"kafka://{broker.servers}", "--progress", events, *arguments]
            acequia.measure(command, "filling topic transactions", 900)
        else:
            # People and auctions are few in the stream: four times as long a stretch of it.
            stretch = events * 50 / BIDS_IN_FIFTY * (1 if topic == "bid" else 4)
            environment = {"BROKER": broker.servers, "EVENTS": str(math.ceil(stretch))}
            acequia.run((QUERIES / "fill" / f"{topic}.sql").read_text(), f"fill-{topic}", 900, environment)
    return {topic: int(broker.topics.ask("count", topic)[0]) for topic in topics}
