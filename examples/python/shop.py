#!/usr/bin/env python3
"""The shop's figures, read from the warehouse and from Redis.

The warehouse is a SQLite file (Python's own sqlite3) or PostgreSQL (the package psycopg); metrics come from Redis (the
package redis) or, while Acequia's embedded store takes its place, from the console of the running process.

    python3 examples/python/shop.py                                     # embedded parts, in ./acequia-data
    python3 examples/python/shop.py --warehouse DIR/warehouse.sqlite --metrics http://127.0.0.1:9464
    python3 examples/python/shop.py --warehouse postgres://... --metrics redis://...
    python3 examples/python/shop.py --json
"""

import argparse
import json
import os
import sqlite3
import sys
import urllib.parse
import urllib.request
from datetime import datetime, timedelta, timezone
from decimal import Decimal

WINDOW = timedelta(seconds=30)
SHOWN = 20  # windows: the last ten minutes
HOURS = 24


class SqliteWarehouse:
    """The embedded warehouse. Others may read the file while Acequia writes it."""

    hour = "strftime('%Y-%m-%dT%H:00:00Z', timestamp)"
    second = "strftime('%Y-%m-%dT%H:%M:%SZ', {})"

    def __init__(self, path):
        # Read-only: a file that is not there is an error, and not made.
        self.connection = sqlite3.connect(f"file:{urllib.parse.quote(path)}?mode=ro", uri=True, isolation_level=None)
        # One transaction: all figures are of the same moment.
        self.connection.execute("BEGIN")

    def rows(self, sql):
        return self.connection.execute(sql).fetchall()


class PostgresWarehouse:
    """The real warehouse."""

    hour = "to_char(timestamp, 'YYYY-MM-DD\"T\"HH24:00:00\"Z\"')"
    second = "to_char({}, 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"

    def __init__(self, url):
        try:
            import psycopg
        except ImportError:
            sys.exit("a warehouse in PostgreSQL needs the package psycopg: pip install 'psycopg[binary]'")
        self.connection = psycopg.connect(url)
        self.connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        self.connection.read_only = True

    def rows(self, sql):
        return self.connection.execute(sql).fetchall()


def warehouse_at(place):
    if place.startswith(("postgres://", "postgresql://")):
        return PostgresWarehouse(place)
    return SqliteWarehouse(place)


def metrics_at(place):
    """All keys metrics:* with their values: each is the newest window of 30 seconds."""
    if place.startswith("http"):
        return metrics_of_console(place.rstrip("/"))
    try:
        import redis
    except ImportError:
        sys.exit("metrics in Redis need the package redis: pip install redis")
    server = redis.Redis.from_url(place, decode_responses=True)
    keys = sorted(server.scan_iter("metrics:*"))
    # A key may have come to the end of its hour since it was listed.
    return {key: json.loads(value) for key, value in zip(keys, server.mget(keys) if keys else []) if value}


def metrics_of_console(console):
    def get(path, **query):
        with urllib.request.urlopen(f"{console}/api/v1/redis/{path}?{urllib.parse.urlencode(query)}", timeout=10) as answer:
            return json.load(answer)

    return {key: get("get", key=key) for key in sorted(get("keys", pattern="metrics:*"))}


def iso(moment):
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def parse(text):
    return datetime.strptime(text[:19].replace(" ", "T"), "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)


def window_of(moment):
    seconds = int(moment.timestamp())
    return datetime.fromtimestamp(seconds - seconds % 30, timezone.utc)


def windows(warehouse, newest):
    """Revenue, transactions and customers of the 20 windows that end with `newest`, from the warehouse's rows."""
    starts = [newest - WINDOW * back for back in reversed(range(SHOWN))]
    sums = {start: {"revenue": Decimal(0), "transactions": 0, "customers": set()} for start in starts}
    rows = warehouse.rows(
        f"SELECT {warehouse.second.format('timestamp')}, amount, customer_id FROM realtime_events "
        f"WHERE event_type = 'transaction' AND timestamp >= '{starts[0]:%Y-%m-%d %H:%M:%S}'"
    )
    for moment, amount, customer in rows:
        window = sums.get(window_of(parse(moment)))
        if window is not None:
            window["revenue"] += Decimal(str(amount))
            window["transactions"] += 1
            window["customers"].add(customer)
    return [
        {"window": iso(start), "revenue": float(sum_["revenue"]), "transactions": sum_["transactions"],
         "customers": len(sum_["customers"])}
        for start, sum_ in sums.items()
    ]


def activity(warehouse, now):
    """Events, transactions and behaviour of each of the last 24 hours; hours without events are 0."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    hours = [iso(hour - timedelta(hours=back)) for back in reversed(range(HOURS))]
    counts = {
        hour: (events, transactions, behavior)
        for hour, events, transactions, behavior in warehouse.rows(
            f"SELECT {warehouse.hour}, {KINDS} FROM realtime_events "
            f"WHERE timestamp >= '{hours[0][:10]} {hours[0][11:19]}' GROUP BY 1"
        )
    }
    names = ("events", "transactions", "behavior")
    return [{"hour": hour, **dict(zip(names, counts.get(hour, (0, 0, 0))))} for hour in hours]


# Behaviour is all that is neither a transaction nor one of its items.
KINDS = (
    "COUNT(*), COUNT(CASE WHEN event_type = 'transaction' THEN 1 END), "
    "COUNT(CASE WHEN event_type NOT IN ('transaction', 'transaction_item') THEN 1 END)"
)


def totals(warehouse):
    (events, transactions, behavior, customers, days, first, last), = warehouse.rows(
        f"SELECT {KINDS}, COUNT(DISTINCT customer_id), COUNT(DISTINCT DATE(timestamp)), "
        f"{warehouse.second.format('MIN(timestamp)')}, {warehouse.second.format('MAX(timestamp)')} FROM realtime_events"
    )
    return {"events": events, "transactions": transactions, "behavior": behavior, "customers": customers,
            "active_days": days, "first_event": first, "last_event": last}


def figures(warehouse, metrics):
    """Everything that the page on :8501 shows, as one value."""
    transactions = metrics.get("metrics:transactions")
    now = datetime.now(timezone.utc)
    newest = parse(transactions["timestamp"]) if transactions else window_of(now)
    recent = windows(warehouse, newest)
    before = recent[-2]
    tiles = transactions and {
        name: {"value": value, "change": (value - previous) / previous if previous else None}
        for name, value, previous in (
            ("revenue", transactions["total_revenue"], before["revenue"]),
            ("transactions", transactions["transaction_count"], before["transactions"]),
            ("customers", transactions["unique_customers"], before["customers"]),
        )
    }
    return {
        "tiles": tiles,
        "transactions": transactions,
        "behavior": [value for key, value in metrics.items() if key.startswith("metrics:behavior:")],
        "products": [value for key, value in metrics.items() if key.startswith("metrics:products:")],
        "recent": recent,
        "activity": activity(warehouse, now),
        "warehouse": totals(warehouse),
        "sessions": dict(warehouse.rows("SELECT outcome, COUNT(*) FROM customer_sessions GROUP BY outcome ORDER BY outcome")),
    }


def show(shop):
    tiles = shop["tiles"]
    print(f"The newest window{'' if tiles else ': nothing yet'}")
    for name, tile in (tiles or {}).items():
        change = "" if tile["change"] is None else f"{tile['change']:+10.1%} against the window before"
        print(f"  {name:<14}{tile['value']:>12,}{change}")
    print("\nBehaviour by kind, in its newest window")
    for kind in shop["behavior"]:
        print(f"  {kind['event_type']:<18}{kind['event_count']:>8,}  {kind['timestamp']}")
    print("\nCategories, in their newest window")
    for category in shop["products"]:
        print(f"  {category['category']:<18}{category['product_sales']:>8,} sales {category['category_revenue']:>12,.2f}")
    print("\nThe last 10 minutes")
    for window in shop["recent"]:
        print(f"  {window['window'][11:19]}{window['transactions']:>6,} transactions {window['revenue']:>12,.2f}")
    print("\nThe last 24 hours")
    for hour in shop["activity"]:
        print(f"  {hour['hour'][:13]}h{hour['events']:>9,} events {hour['transactions']:>9,} transactions")
    print("\nThe warehouse")
    for name, value in shop["warehouse"].items():
        print(f"  {name:<14}{value if isinstance(value, str) else f'{value or 0:,}':>22}")
    print("\nSessions")
    for outcome, count in shop["sessions"].items():
        print(f"  {outcome:<18}{count:>8,}")


def main():
    parser = argparse.ArgumentParser(description="The shop's figures, from the warehouse and from Redis.")
    parser.add_argument("--warehouse", default=os.environ.get("DWH_URL") or "acequia-data/warehouse.sqlite",
                        help="a SQLite file or postgres://... [default: $DWH_URL, or %(default)s]")
    parser.add_argument("--metrics", default=os.environ.get("REDIS_URL") or "http://127.0.0.1:9464",
                        help="redis://... or the console's address [default: $REDIS_URL, or %(default)s]")
    parser.add_argument("--json", action="store_true", help="one JSON object and not a text")
    arguments = parser.parse_args()
    shop = figures(warehouse_at(arguments.warehouse), metrics_at(arguments.metrics))
    if arguments.json:
        json.dump(shop, sys.stdout, indent=2, default=str)
        print()
    else:
        show(shop)


if __name__ == "__main__":
    main()
