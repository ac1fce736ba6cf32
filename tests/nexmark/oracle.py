"""Nexmark's queries as DuckDB answers them, from the text of the specification and not from Acequia's.

    oracle.py check EVENTS RESULTS     holds RESULTS/q0.jsonl ... and the Delta table RESULTS/q10 against the answers; says
                                       what differs, exit code 1
    oracle.py write EVENTS ANSWERS     writes the answers as JSON lines

EVENTS holds person.jsonl, auction.jsonl, bid.jsonl and side_input.jsonl.
"""

import pathlib
import sys

import deltalake
import duckdb

TABLES = {
    "person": "id BIGINT, name VARCHAR, email_address VARCHAR, credit_card VARCHAR, city VARCHAR, state VARCHAR,"
    "date_time TIMESTAMP, extra VARCHAR",
    "auction": "id BIGINT, item_name VARCHAR, description VARCHAR, initial_bid BIGINT, reserve BIGINT, date_time TIMESTAMP,"
    "expires TIMESTAMP, seller BIGINT, category BIGINT, extra VARCHAR",
    "bid": "auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, date_time TIMESTAMP, extra VARCHAR",
    "side_input": "key BIGINT, value VARCHAR",
}

# The start of the 10 seconds in which a time lies.
TEN = "time_bucket(INTERVAL 10 SECOND, {}, TIMESTAMP '2000-01-01')"

WINNING = """
    FROM auction A, bid B
    WHERE A.id = B.auction AND B.date_time BETWEEN A.date_time AND A.expires
"""

RANKS = ["price < 10000", "price >= 10000 AND price < 1000000", "price >= 1000000"]


def ranked(what, name):
    """A count, and the same for each level of price."""
    counts = [f"count({what}) AS total_{name}"]
    return ", ".join(counts + [f"count({what}) FILTER (WHERE {rank}) AS rank{n + 1}_{name}" for n, rank in enumerate(RANKS)])


DAY = "strftime(date_time, '%Y-%m-%d')"
EVERY_COUNT = f"{ranked('*', 'bids')}, {ranked('DISTINCT bidder', 'bidders')}, {ranked('DISTINCT auction', 'auctions')}"

QUERIES = {
    "q0": "SELECT auction, bidder, price, date_time, extra FROM bid",
    "q1": "SELECT auction, bidder, CAST(0.908 * price AS DECIMAL(23, 3)) AS price, date_time, extra FROM bid",
    "q2": "SELECT auction, price FROM bid WHERE mod(auction, 123) = 0",
    "q3": """
        SELECT P.name, P.city, P.state, A.id FROM auction A JOIN person P ON A.seller = P.id
        WHERE A.category = 10 AND P.state IN ('OR', 'ID', 'CA')
    """,
    "q4": f"""
        SELECT category, CAST(trunc(avg(final)) AS BIGINT) AS final
        FROM (SELECT max(B.price) AS final, A.category {WINNING} GROUP BY A.id, A.category)
        GROUP BY category
    """,
    "q5": """
        WITH counts AS (
            SELECT start, auction, count(*) AS num
            FROM (
                SELECT auction, unnest(range(
                    time_bucket(INTERVAL 2 SECOND, date_time, TIMESTAMP '2000-01-01') - INTERVAL 8 SECOND,
                    time_bucket(INTERVAL 2 SECOND, date_time, TIMESTAMP '2000-01-01') + INTERVAL 2 SECOND,
                    INTERVAL 2 SECOND)) AS start
                FROM bid
            )
            GROUP BY start, auction
        )
        SELECT auction, num
        FROM counts JOIN (SELECT start, max(num) AS maxn FROM counts GROUP BY start) USING (start)
        WHERE num >= maxn
    """,
    "q6": f"""
        SELECT seller, CAST(trunc(avg(price) OVER (
            PARTITION BY seller ORDER BY date_time, id ROWS BETWEEN 10 PRECEDING AND CURRENT ROW)) AS BIGINT) AS avg_price
        FROM (
            SELECT A.id, A.seller, B.price, B.date_time,
                row_number() OVER (PARTITION BY A.id, A.seller ORDER BY B.price DESC, B.date_time, B.bidder, B.extra) AS n
            {WINNING}
        )
        WHERE n <= 1
    """,
    "q7": f"""
        SELECT B.auction, B.bidder, B.price, B.date_time, B.extra
        FROM bid B JOIN (
            SELECT max(price) AS maxprice, {TEN.format("date_time")} AS start FROM bid GROUP BY start
        ) M ON B.price = M.maxprice AND {TEN.format("B.date_time")} = M.start
    """,
    "q8": f"""
        SELECT P.id, P.name, P.starttime
        FROM (SELECT DISTINCT id, name, {TEN.format("date_time")} AS starttime FROM person) P
        JOIN (SELECT DISTINCT seller, {TEN.format("date_time")} AS starttime FROM auction) A
        ON P.id = A.seller AND P.starttime = A.starttime
    """,
    "q9": f"""
        SELECT id, item_name, description, initial_bid, reserve, date_time, expires, seller, category, extra,
            auction, bidder, price, bid_date_time, bid_extra
        FROM (
            SELECT A.*, B.auction, B.bidder, B.price, B.date_time AS bid_date_time, B.extra AS bid_extra,
                row_number() OVER (PARTITION BY A.id ORDER BY B.price DESC, B.date_time, B.bidder, B.extra) AS n
            {WINNING}
        )
        WHERE n <= 1
    """,
    "q10": f"""
        SELECT auction, bidder, price, date_time, extra, {DAY} AS dt, strftime(date_time, '%H:%M') AS hm FROM bid
    """,
    # 10 seconds without a bid end a session: two bids exactly so far apart are in two.
    "q11": """
        WITH marked AS (
            SELECT *, coalesce(date_time - lag(date_time) OVER mine >= INTERVAL 10 SECOND, true) AS begins
            FROM bid WINDOW mine AS (PARTITION BY bidder ORDER BY date_time)
        ), numbered AS (
            SELECT *, sum(begins::INT) OVER (PARTITION BY bidder ORDER BY date_time ROWS UNBOUNDED PRECEDING) AS session
            FROM marked
        )
        SELECT bidder, count(*) AS bid_count, min(date_time) AS starttime, max(date_time) + INTERVAL 10 SECOND AS endtime
        FROM numbered GROUP BY bidder, session
    """,
    "q13": """
        SELECT B.auction, B.bidder, B.price, B.date_time, S.value
        FROM bid B JOIN side_input S ON mod(B.auction, 10000) = S.key
    """,
    "q14": """
        SELECT auction, bidder, CAST(0.908 * price AS DECIMAL(23, 3)) AS price,
            CASE
                WHEN hour(date_time) >= 8 AND hour(date_time) <= 18 THEN 'dayTime'
                WHEN hour(date_time) <= 6 OR hour(date_time) >= 20 THEN 'nightTime'
                ELSE 'otherTime'
            END AS bid_time_type,
            date_time, extra, length(extra) - length(replace(extra, 'c', '')) AS c_counts
        FROM bid WHERE 0.908 * price > 1000000 AND 0.908 * price < 50000000
    """,
    "q15": f'SELECT {DAY} AS "day", {EVERY_COUNT} FROM bid GROUP BY 1',
    "q16": f"""
        SELECT channel, {DAY} AS "day", max(strftime(date_time, '%H:%M')) AS "minute", {EVERY_COUNT}
        FROM bid GROUP BY 1, 2
    """,
    "q17": f"""
        SELECT auction, {DAY} AS "day", {ranked('*', 'bids')}, min(price) AS min_price, max(price) AS max_price,
            CAST(trunc(avg(price)) AS BIGINT) AS avg_price, CAST(sum(price) AS BIGINT) AS sum_price
        FROM bid GROUP BY 1, 2
    """,
    "q18": """
        SELECT auction, bidder, price, channel, url, date_time, extra
        FROM (
            SELECT *, row_number() OVER (PARTITION BY bidder, auction ORDER BY date_time DESC, price DESC, extra) AS n
            FROM bid
        )
        WHERE n <= 1
    """,
    "q19": """
        SELECT * FROM (
            SELECT *, row_number() OVER (PARTITION BY auction ORDER BY price DESC, date_time, bidder, extra) AS rank_number
            FROM bid
        )
        WHERE rank_number <= 10
    """,
    "q20": """
        SELECT B.auction, B.bidder, B.price, B.channel, B.url, B.date_time AS bid_date_time, B.extra AS bid_extra,
            A.item_name, A.description, A.initial_bid, A.reserve, A.date_time AS auction_date_time, A.expires, A.seller,
            A.category, A.extra AS auction_extra
        FROM bid B JOIN auction A ON B.auction = A.id
        WHERE A.category = 10
    """,
    "q21": """
        SELECT auction, bidder, price, channel, channel_id
        FROM (
            SELECT *, CASE lower(channel)
                WHEN 'apple' THEN '0' WHEN 'google' THEN '1' WHEN 'facebook' THEN '2' WHEN 'baidu' THEN '3'
                ELSE nullif(regexp_extract(url, '(&|^)channel_id=([^&]*)', 2), '')
            END AS channel_id
            FROM bid
        )
        WHERE channel_id IS NOT NULL
    """,
    "q22": """
        SELECT auction, bidder, price, channel,
            split_part(url, '/', 4) AS dir1, split_part(url, '/', 5) AS dir2, split_part(url, '/', 6) AS dir3
        FROM bid
    """,
}


def load(db, name, path, columns):
    """Makes a table of JSON lines."""
    pairs = [column.strip().split(" ", 1) for column in columns]
    texts = ", ".join(f"'{name}': 'VARCHAR'" for name, _ in pairs)
    casts = ", ".join(f'CAST("{name}" AS {kind}) AS "{name}"' for name, kind in pairs)
    lines = f"read_json('{path}', format = 'newline_delimited', columns = {{{texts}}})"
    db.execute(f"CREATE TABLE {name} AS SELECT {casts} FROM {lines}")


def database(events):
    db = duckdb.connect()
    for name, columns in TABLES.items():
        load(db, name, events / f"{name}.jsonl", columns.split(","))
    return db


def check(db, results):
    """How many queries have other rows than they should."""
    wrong = 0
    for name in sorted(path.stem for path in results.glob("q*.jsonl")):
        got = f"got_{name}"
        path = results / f"{name}.jsonl"
        if name == "q10":
            rows = deltalake.DeltaTable(results / "q10").to_pyarrow_table()
            db.register("written", rows)
            db.execute(f"CREATE TABLE {got} AS SELECT * FROM written")
            expected, found = QUERIES[name], f"FROM {got}"
        elif name == "q12":
            load(db, got, path, ["bidder BIGINT", "bid_count BIGINT", "starttime TIMESTAMP", "endtime TIMESTAMP"])
            # In which 10 seconds of the clock a bid was made is nobody's to know: what must hold is that each counts once.
            odd = db.execute(f"SELECT count(*) FROM {got} WHERE endtime - starttime <> INTERVAL 10 SECOND").fetchone()[0]
            wrong += odd > 0
            expected = "SELECT bidder, count(*) FROM bid GROUP BY bidder"
            found = f"SELECT bidder, sum(bid_count) FROM {got} GROUP BY bidder"
        else:
            described = db.execute(f"DESCRIBE {QUERIES[name]}").fetchall()
            load(db, got, path, [f"{column[0]} {column[1]}" for column in described])
            expected, found = QUERIES[name], f"FROM {got}"
        count = db.execute(f"SELECT count(*) FROM ({expected})").fetchone()[0]
        missing = db.execute(f"SELECT * FROM ({expected}) EXCEPT ALL SELECT * FROM ({found})").fetchall()
        more = db.execute(f"SELECT * FROM ({found}) EXCEPT ALL SELECT * FROM ({expected})").fetchall()
        print(f"{name}: {count} rows, {len(missing)} missing, {len(more)} not expected")
        for sign, rows in (("-", missing), ("+", more)):
            for row in rows[:3]:
                print(f"  {sign} {row}")
        wrong += bool(missing or more or count == 0)
    return wrong


def write(db, answers):
    """Writes every answer, times as Acequia writes them."""
    for name, query in QUERIES.items():
        columns = []
        for column, kind, *_ in db.execute(f"DESCRIBE {query}").fetchall():
            if kind.startswith("TIMESTAMP"):
                text = f"strftime(\"{column}\", '%Y-%m-%dT%H:%M:%S.%g')"
                columns.append(f"replace({text}, '.000', '') || 'Z' AS \"{column}\"")
            else:
                columns.append(f'"{column}"')
        target = answers / f"{name}.jsonl"
        db.execute(f"COPY (SELECT {', '.join(columns)} FROM ({query}) ORDER BY ALL) TO '{target}' (FORMAT json)")


def main():
    if len(sys.argv) != 4 or sys.argv[1] not in ("check", "write"):
        sys.exit(__doc__)
    events, other = (pathlib.Path(path) for path in sys.argv[2:])
    db = database(events)
    if sys.argv[1] == "write":
        write(db, other)
    else:
        sys.exit(check(db, other) > 0)


main()
