"""What is reckoned from samples; run by tests/cli/bench.rs: python3 -m unittest comparison.tests, in scripts/bench."""

import pathlib
import tempfile
import unittest

from . import ages, report, results, stages, workload
from .processes import Trouble


class Rows:
    """Stands for a broker: topics are lists of canonical rows."""

    def __init__(self, **topics):
        self.held = topics
        self.topics = self

    def digest(self, topic, file="-"):
        rows = self.held[topic]
        if file != "-":
            pathlib.Path(file).write_text("".join(row + "\n" for row in rows))
        return len(rows), str(sorted(rows))


def compare(ours, theirs, rounded=None):
    with tempfile.TemporaryDirectory() as folder:
        query = workload.Query("q", ("t",), rounded or {})
        return results.compare(Rows(a=ours, f=theirs), query, {"acequia": "a", "flink": "f"}, folder)


class Comparing(unittest.TestCase):
    def test_equal_rows_in_another_order_are_equal(self):
        self.assertEqual(compare(['{"k":1}', '{"k":2}', '{"k":2}'], ['{"k":2}', '{"k":1}', '{"k":2}']), 3)

    def test_a_row_too_many_is_a_difference(self):
        with self.assertRaisesRegex(Trouble, r'2 times from acequia, 1 times from flink: \{"k": "2"\}'):
            compare(['{"k":1}', '{"k":2}', '{"k":2}'], ['{"k":2}', '{"k":1}'])

    def test_another_value_is_a_difference(self):
        with self.assertRaisesRegex(Trouble, "0 times from acequia, 1 times from flink"):
            compare(['{"k":1.5}'], ['{"k":1.6}'])

    def test_an_average_may_differ_by_its_tolerance_and_no_more(self):
        self.assertEqual(compare(['{"a":1.01,"k":1}'], ['{"a":1.02,"k":1}'], {"a": 0.01}), 1)
        with self.assertRaisesRegex(Trouble, r"\['a'\] is .*1.01.* from acequia, .*1.03.* from flink"):
            compare(['{"a":1.01,"k":1}'], ['{"a":1.03,"k":1}'], {"a": 0.01})

    def test_other_columns_are_exact_beside_a_tolerance(self):
        with self.assertRaisesRegex(Trouble, "the engines disagree"):
            compare(['{"a":1.01,"k":1}'], ['{"a":1.01,"k":2}'], {"a": 0.01})


class Reporting(unittest.TestCase):
    def data(self):
        def used(wall, cpu, peak):
            return {"wall": wall, "cpu": cpu, "peak": peak}

        samples = [
            {
                "acequia": used(2.5 + more, 3.0 + more, 100.0), "acequia-empty": used(0.5, 1.0, 50.0),
                "flink": used(11.0, 22.0, 1500.0), "flink-empty": used(1.0, 2.0, 1400.0),
                "bare": {"events": 1_000_000, "wall": 1.0, "cpu": 1.0},
            }
            for more in (0.0, 1.0, 0.0)
        ]  # fmt: skip
        place = {"date": "d", "processor": "p", "cores": 2, "kernel": "k", "load": 0.1, "acequia": "a", "rustc": "r"}
        place |= {"flink": "2.3.0", "connector": "c", "java": "j"}
        settings = {"backend": "hashmap", "parallelism": 2, "repeats": 3}
        query = {"name": "q0", "events": 1_000_000, "rows": 7, "samples": samples}
        return {"surroundings": place, "settings": settings, "queries": [query]}

    def test_start_up_is_taken_off_and_medians_are_compared(self):
        summary = report.summary(self.data()["queries"][0]["samples"], 1_000_000, "acequia")
        self.assertEqual((summary["cpu"].median, summary["cpu"].low, summary["cpu"].high), (2.0, 2.0, 3.0))
        self.assertEqual(summary["rate"].median, 500_000)
        row = next(line for line in report.tables(self.data()).splitlines() if line.startswith("| q0 | 1,000,000"))
        self.assertIn("| 500 k (333 k–500 k) | 100 k (100 k–100 k) | 2.00 (2.00–3.00) | 20.00 (20.00–20.00) |", row)
        # 20 / 2 without start-up, 22 / 3 with it, 1500 / 100 in memory.
        self.assertIn("| **10.0** | 7.3 | 100 | 1,500 | **15.0** |", row)

    def test_acequia_alone_has_a_row_too(self):
        data = self.data()
        for sample in data["queries"][0]["samples"]:
            del sample["flink"], sample["flink-empty"]
        self.assertIn("| q0 | 1,000,000 | 7 | 500 k (333 k–500 k) |  | 2.00 (2.00–3.00) |  |  |  | 100 |  |  |", report.tables(data))

    def test_the_bare_loop_has_a_table(self):
        self.assertIn("| q0 | 1,000 k (1,000 k–1,000 k) | 1.00 (1.00–1.00) | 50% | 2.0 |", report.tables(self.data()))

    def test_the_page_has_a_place_for_the_tables(self):
        text = report.DOCS.read_text()
        self.assertEqual((text.count(report.BEGIN), text.count(report.END)), (1, 1))


class Ageing(unittest.TestCase):
    def test_every_event_counts_for_the_first_value_that_holds_it(self):
        def value(text):
            return {"appended_0": text}

        start = ages.millis("2026-01-01T00:00:00Z")
        appended = {(0, start): 1, (0, start + 10): 2, (0, start + 20): 3, (0, start + 90): 1}
        seen = [
            (start + 50, "k", value("2026-01-01T00:00:00.010Z")),
            (start + 70, "k", value("2026-01-01T00:00:00.010Z")),
            (start + 120, "k", value("2026-01-01T00:00:00.090Z")),
        ]
        found = ages.ages(seen, appended, (start, start + 1000))
        # What the first value holds is unknown: there is none before it.
        self.assertEqual(found, [(30, 1), (100, 3)])
        self.assertEqual((ages.percentile(found, 0.25), ages.percentile(found, 0.5)), (30, 100))


class Staging(unittest.TestCase):
    def test_the_innermost_function_of_a_stage_decides_else_the_thread(self):
        script = """tokio-rt-worker 12
\t    55d4 __memmove_avx_unaligned_erms
\t    55d5 acequia::formats::json::decode::Decoder::decode
\t    55d6 acequia::dataflow::source_task::run

rdk:broker1 13
\t    55d4 LZ4_decompress_generic
\t    55d5 rd_kafka_msgset_reader_v2

rdk:broker1 13
\t    55d4 epoll_wait

acequia 14
\t    55d4 main
"""
        profile = stages.Profile("q", script)
        self.assertEqual(dict(profile.samples), {"decode": 1, "fetch": 1, "fetch or sink": 1, "other": 1})
        self.assertIn("| decode | 25.0% |", stages.table([profile]))
        self.assertIn("- decode: 25.0% `__memmove_avx_unaligned_erms`", profile.functions(1))


class Commands(unittest.TestCase):
    def test_an_unknown_query_is_named_with_those_that_there_are(self):
        with self.assertRaisesRegex(Trouble, "no such query: q99; there are shop_totals, .*q22"):
            workload.chosen(["q0", "q99"])

    def test_flink_gets_the_broker_and_the_topics(self):
        sql = {query.name: query.flink("broker:1", "out", "-empty") for query in workload.ALL}
        self.assertIn("'topic' = 'bid-empty'", sql["q0"])
        self.assertIn("'topic' = 'out'", sql["q0"])
        self.assertNotIn("${", "".join(sql.values()))


if __name__ == "__main__":
    unittest.main()
