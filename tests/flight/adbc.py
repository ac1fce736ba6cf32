"""What a Python program does by ADBC, against the server that the test has started.

    python adbc.py URI [USER PASSWORD [CA]]

The server has one place for queries: each must be given back before the next.
"""

import decimal
import sys
import threading
import time

import adbc_driver_flightsql.dbapi as flight
import adbc_driver_manager
import pyarrow
from adbc_driver_flightsql import DatabaseOptions

ENDLESS = (
    "SELECT a.transaction_id FROM transactions_history a"
    " CROSS JOIN transactions_history b CROSS JOIN transactions_history c"
)


def connect(uri, user=None, password=None, authority=None):
    options = {} if user is None else {"username": user, "password": password}
    if authority is not None:
        with open(authority) as file:
            options[DatabaseOptions.TLS_ROOT_CERTS.value] = file.read()
    return flight.connect(uri, db_kwargs=options, autocommit=True)


def queries(cursor):
    cursor.execute("SELECT * FROM transactions_history WHERE transaction_id = 7")
    [row] = cursor.fetchall()
    assert row[:4] == (7, 7, decimal.Decimal("7.50"), "paid"), row
    assert [column[0] for column in cursor.description] == [
        "transaction_id", "customer_id", "amount", "status", "timestamp", "day", "offset",
    ]
    cursor.execute("SELECT count(*) AS n FROM transactions_history")
    assert cursor.fetch_arrow_table().to_pylist() == [{"n": 1000}]


def parameters(cursor):
    cursor.execute(
        "SELECT transaction_id FROM transactions_history WHERE status = ? AND amount > ? ORDER BY 1 LIMIT ?",
        ("paid", decimal.Decimal("990.00"), 2),
    )
    assert cursor.fetchall() == [(991,), (993,)]
    cursor.execute("SELECT $1 AS text, $2 + 1 AS number, $3 AS nothing", ("é", 41, None))
    assert cursor.fetchall() == [("é", 42, None)]
    # A statement runs once for each row of values.
    several = pyarrow.record_batch({"id": [3, 1, 2]})
    cursor.adbc_prepare("SELECT customer_id FROM transactions_history WHERE transaction_id = $1")
    cursor.adbc_statement.bind(several)
    stream, _ = cursor.adbc_statement.execute_query()
    assert pyarrow.RecordBatchReader.from_stream(stream).read_all().column(0).to_pylist() == [3, 1, 2]


def schemas(cursor):
    schema = cursor.adbc_execute_schema("SELECT transaction_id, status FROM transactions_history")
    assert schema.names == ["transaction_id", "status"] and schema.types == [pyarrow.int64(), pyarrow.string()], schema


def objects(connection):
    everything = connection.adbc_get_objects(table_name_filter="transactions%").read_all().to_pylist()
    assert [catalog["catalog_name"] for catalog in everything] == ["acequia"], everything
    tables = {
        f"{schema['db_schema_name']}.{table['table_name']}": (table["table_type"], table["table_columns"])
        for schema in everything[0]["catalog_db_schemas"]
        for table in schema["db_schema_tables"]
    }
    kind, columns = tables["history.transactions_history"]
    assert kind == "TABLE" and tables["history.transactions"][0] == "VIEW", tables.keys()
    assert [column["column_name"] for column in columns][:3] == ["transaction_id", "customer_id", "amount"], columns
    schema = connection.adbc_get_table_schema("transactions_history", db_schema_filter="history")
    assert schema.field("amount").type == pyarrow.decimal128(12, 2), schema
    assert connection.adbc_get_table_types() == ["TABLE", "VIEW"]
    assert connection.adbc_get_info()["vendor_name"] == "Acequia"


def refusals(cursor):
    for sql, word in [
        ("DROP TABLE transactions_history", "error: "),
        ("SELECT missing FROM transactions_history", "missing"),
        ("SELECT * FROM '/etc/passwd'", "files are not read here"),
        ("COPY transactions_history TO '/tmp/x.parquet'", "error: "),
        ("SELECT 1; SELECT 2", "only one statement"),
    ]:
        try:
            cursor.execute(sql)
        except flight.Error as error:
            assert word in str(error), error
        else:
            raise AssertionError(f"{sql} was not refused")
    try:
        cursor.execute("SELECT 1 WHERE 1 = $1", ("one",))
        cursor.fetchall()
    except flight.Error as error:
        assert "parameter $1 takes a value of type Int64" in str(error), error
    else:
        raise AssertionError("a text was taken for a number")
    try:
        cursor.adbc_ingest("new", pyarrow.table({"a": [1]}))
    except flight.NotSupportedError as error:
        assert "nothing can be ingested" in str(error), error
    else:
        raise AssertionError("rows were taken")


def cancelling(connection):
    with connection.cursor() as cursor:
        cursor.execute(ENDLESS)
        reader = cursor.fetch_record_batch()
        reader.read_next_batch()
        threading.Thread(target=cursor.adbc_cancel).start()
        try:
            while True:
                reader.read_next_batch()
        except StopIteration:
            raise AssertionError("a cancelled query came to its end")
        except Exception as error:
            assert "cancel" in str(error).lower(), error
    # The only place is free again: within a while, since the server hears of it from the connection.
    deadline = time.monotonic() + 60
    while True:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
                assert cursor.fetchone() == (1,)
                return
        except flight.Error as busy:
            assert "--max-queries" in str(busy) and time.monotonic() < deadline, busy


def main(arguments):
    uri = arguments[0]
    with connect(*arguments) as connection:
        with connection.cursor() as cursor:
            queries(cursor)
            parameters(cursor)
            schemas(cursor)
            refusals(cursor)
        objects(connection)
        cancelling(connection)
    if len(arguments) > 1:
        for user, password in [(arguments[1], "wrong"), ("nobody", arguments[2]), (None, None)]:
            try:
                with connect(uri, user, password, *arguments[3:]) as connection, connection.cursor() as cursor:
                    cursor.execute("SELECT 1")
            except (flight.Error, adbc_driver_manager.Error) as error:
                assert "is wrong" in str(error) or "log in" in str(error), error
            else:
                raise AssertionError(f"{user} was let in")
    print("adbc: all is well")


main(sys.argv[1:])
