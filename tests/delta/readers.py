"""Reads Delta tables as others do, for the tests in tests/delta: a request in JSON on each line in, an answer on each line out.

Nothing here is Acequia's code. scripts/python.sh installs what is imported.
"""

import datetime
import decimal
import json
import pathlib
import sys
import traceback
import urllib.parse

import deltalake
import duckdb
import duckdb_extension_delta
import polars

DUCKDB = duckdb.connect()
EXTENSIONS = pathlib.Path(duckdb_extension_delta.__file__).parent
DUCKDB.execute(f"LOAD '{next(EXTENSIONS.glob('extensions/*/delta.duckdb_extension'))}'")


def plain(value):
    """A value as JSON that is the same whoever has read it."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, datetime.datetime):
        if value.tzinfo is not None:
            value = value.astimezone(datetime.timezone.utc)
        return value.isoformat(timespec="microseconds")
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if isinstance(value, float):
        # Not every parser of JSON reads the last digit.
        return repr(value)
    return value


def by_deltalake(table, version):
    return deltalake.DeltaTable(table, version=version).to_pyarrow_table().to_pylist()


def by_pyarrow(table, version):
    return deltalake.DeltaTable(table, version=version).to_pyarrow_dataset().to_table().to_pylist()


def by_duckdb(table, version):
    at = "" if version is None else f", version => {version}"
    result = DUCKDB.execute(f"SELECT * FROM delta_scan('{table}'{at})")
    names = [column[0] for column in result.description]
    return [dict(zip(names, row)) for row in result.fetchall()]


def by_polars(table, version):
    return polars.read_delta(table, version=version).to_dicts()


READERS = {"deltalake": by_deltalake, "pyarrow": by_pyarrow, "duckdb": by_duckdb, "polars": by_polars}


def read(reader, table, version=None):
    """All rows."""
    return plain(READERS[reader](table, version))


def sql(sql):
    """What DuckDB says."""
    return plain(DUCKDB.execute(sql).fetchall())


def look(table):
    """The files that the newest version names, and which of them are not there."""
    uris = deltalake.DeltaTable(table).file_uris()
    paths = [pathlib.Path(urllib.parse.urlparse(uri).path) for uri in uris]
    return {"files": [str(path) for path in paths], "missing": [str(path) for path in paths if not path.exists()]}


def numbers(reader, table):
    """The numbers in column `n`, counted: how many, how many different ones, the smallest and the largest."""
    if reader == "duckdb":
        found = DUCKDB.execute(f"SELECT count(*), count(DISTINCT n), min(n), max(n) FROM delta_scan('{table}')")
        return list(found.fetchone())
    if reader == "polars":
        column = polars.read_delta(table, columns=["n"])["n"]
    else:
        column = polars.from_arrow(deltalake.DeltaTable(table).to_pyarrow_table(columns=["n"]))["n"]
    return [column.len(), column.n_unique(), column.min(), column.max()]


def operations(table):
    """What was done in each version that the log still tells of, the newest first."""
    return [commit["operation"] for commit in deltalake.DeltaTable(table).history()]


KNOWN = {"read": read, "sql": sql, "look": look, "numbers": numbers, "operations": operations}

for line in sys.stdin:
    request = json.loads(line)
    try:
        answer = {"answer": KNOWN[request.pop("do")](**request)}
    except Exception:
        answer = {"error": traceback.format_exc()}
    print(json.dumps(answer), flush=True)
