#!/usr/bin/env python3
"""How long batch queries over recorded events take, beside DuckDB on the same files.

    scripts/python.sh install        prints a python with DuckDB
    PYTHON benches/history.py --binary target/release/acequia [--rows 10000000] [--repeats 7] [--place FOLDER]

The events are made by `datagen` and written by the `delta` sink of a real run, partitioned by day over ten days. Each
query runs several times in one process of each program, in turn, pair by pair; the figure is the median of the pairs.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

DAYS = 10
FOLDER = """
CREATE TABLE events (
    event_type TEXT, category TEXT, customer_id BIGINT, amount DOUBLE, "timestamp" TIMESTAMP
) WITH (
    connector = 'datagen', rows = {rows}, rows_per_second = 'max', splits = 2,
    'fields.event_type.values' = 'view,search,cart,buy', 'fields.category.values' = 'books,garden,toys,music,food,sports',
    'fields.customer_id.min' = 1, 'fields.customer_id.max' = 100000, 'fields.amount.min' = 1, 'fields.amount.max' = 500,
    'fields.timestamp.kind' = 'sequence', 'fields.timestamp.start' = '2026-11-01T00:00:00Z',
    'fields.timestamp.step' = '{step} us'
);
CREATE TABLE events_history (
    event_type TEXT, category TEXT, customer_id BIGINT, amount DOUBLE, "timestamp" TIMESTAMP, day DATE
) WITH (connector = 'delta', partition_by = 'day', commit_interval = '1 hour', commit_rows = 100000000,
        commit_bytes = '128MB');
INSERT INTO events_history
SELECT event_type, category, customer_id, amount, "timestamp", CAST("timestamp" AS DATE) AS day FROM events;
"""

QUERIES = {
    "one day, one category": "SELECT event_type, count(*) AS n, sum(amount) AS amount FROM events_history "
    "WHERE day = DATE '2026-11-04' AND category = 'toys' GROUP BY event_type ORDER BY event_type",
    "full scan": "SELECT category, event_type, count(*) AS n, sum(amount) AS amount, avg(amount) AS mean "
    "FROM events_history GROUP BY category, event_type ORDER BY category, event_type",
    "one hour by time": 'SELECT count(*) AS n, sum(amount) AS amount FROM events_history '
    "WHERE \"timestamp\" >= TIMESTAMP '2026-11-04 10:00:00' AND \"timestamp\" < TIMESTAMP '2026-11-04 11:00:00'",
    "top customers": "SELECT customer_id, sum(amount) AS amount FROM events_history GROUP BY customer_id "
    "ORDER BY amount DESC, customer_id LIMIT 10",
    "count": "SELECT count(*) AS n FROM events_history",
}


def write(arguments, place):
    """The events, unless they are there already."""
    done = place / "done"
    if done.exists():
        return
    place.mkdir(parents=True, exist_ok=True)
    step = DAYS * 86_400_000_000 // arguments.rows
    (place / "queries.sql").write_text(FOLDER.format(rows=arguments.rows, step=step))
    began = time.monotonic()
    run = [arguments.binary, "run", "queries.sql", "--bounded", "--no-http", "--data-dir", "data"]
    subprocess.run(run, cwd=place, check=True, stderr=subprocess.DEVNULL)
    done.write_text(f"{arguments.rows / (time.monotonic() - began):,.0f} rows/s written\n")


class Acequia:
    """`acequia query`, given statements one after the other."""

    def __init__(self, arguments, place):
        self.command = [arguments.binary, "query", "--folder", "queries.sql", "--data-dir", "data", "--format", "json"]
        self.place = place

    def rows(self, sql, times=1):
        script = ";\n".join([sql] * times)
        run = subprocess.run(self.command, cwd=self.place, input=script, capture_output=True, text=True, check=True)
        return [json.loads(line) for line in run.stdout.splitlines()]

    def seconds(self, sql, repeats):
        """One query in a process that has asked before: more queries less one, and divided."""
        began = time.monotonic()
        self.rows(sql)
        middle = time.monotonic()
        self.rows(sql, repeats + 1)
        once, all_of_them = middle - began, time.monotonic() - middle
        return (all_of_them - once) / repeats, once


class DuckDb:
    """DuckDB over the files of the newest version."""

    def __init__(self, place):
        import deltalake
        import duckdb

        table = deltalake.DeltaTable(str(place / "data/history/events_history"))
        self.files = [file.removeprefix("file://") for file in table.file_uris()]
        self.duckdb = duckdb
        self.connection = self.connect()

    def connect(self):
        connection = self.duckdb.connect()
        files = ", ".join(f"'{file}'" for file in self.files)
        connection.execute(
            f"CREATE VIEW events_history AS SELECT * FROM read_parquet([{files}], hive_partitioning = true)"
        )
        return connection

    def rows(self, sql):
        result = self.connection.execute(sql)
        names = [column[0] for column in result.description]
        return [dict(zip(names, row)) for row in result.fetchall()]

    def seconds(self, sql, repeats):
        began = time.monotonic()
        self.connection = self.connect()
        self.rows(sql)
        middle = time.monotonic()
        for _ in range(repeats):
            self.rows(sql)
        return (time.monotonic() - middle) / repeats, middle - began


def same(ours, theirs):
    """Whether two answers are the same but for the last digits of sums of floating-point numbers."""
    if len(ours) != len(theirs):
        return False
    for one, other in zip(ours, theirs):
        for name, value in one.items():
            near = isinstance(value, float) and abs(value - other[name]) <= 1e-9 * abs(value)
            if value != other[name] and not near:
                return False
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True, type=lambda path: str(Path(path).resolve()))
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--place", type=Path, default=Path("/var/tmp/acequia-bench/history"))
    parser.add_argument("--only", help="one of the queries")
    arguments = parser.parse_args()
    place = (arguments.place / str(arguments.rows)).resolve()
    write(arguments, place)
    print((place / "done").read_text(), end="")
    acequia, duckdb = Acequia(arguments, place), DuckDb(place)
    size = sum(Path(file).stat().st_size for file in duckdb.files)
    print(f"{arguments.rows:,} rows in {len(duckdb.files)} files, {size / 1e6:,.0f} MB")
    print(f"{'query':24} {'acequia':>10} {'DuckDB':>10} {'ratio':>6}   first time in a process")
    for name, sql in QUERIES.items():
        if arguments.only and arguments.only != name:
            continue
        if not same(acequia.rows(sql), duckdb.rows(sql)):
            sys.exit(f"{name}: the answers differ\n{acequia.rows(sql)[:3]}\n{duckdb.rows(sql)[:3]}")
        pairs = []
        for _ in range(arguments.repeats):
            pairs.append((acequia.seconds(sql, 3), duckdb.seconds(sql, 3)))
        ours, theirs = (statistics.median(pair[at][0] for pair in pairs) for at in (0, 1))
        ratio = statistics.median(pair[0][0] / pair[1][0] for pair in pairs)
        first = [statistics.median(pair[at][1] for pair in pairs) for at in (0, 1)]
        print(
            f"{name:24} {ours * 1000:8.1f}ms {theirs * 1000:8.1f}ms {ratio:6.2f}   "
            f"{first[0] * 1000:.0f} ms (a process), {first[1] * 1000:.0f} ms (a connection)",
            flush=True,
        )


if __name__ == "__main__":
    main()
