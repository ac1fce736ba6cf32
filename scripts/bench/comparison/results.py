"""Whether two engines have said the same."""

import collections
import decimal
import json
import pathlib

from .processes import Trouble

SHOWN = 10


def compare(broker, query, topics, folder):
    """Compares the rows of two topics, as multisets; the number of rows. Topics are by engine; one alone is counted.

    A hash over all rows tells whether they are equal; only when it says no, or when figures may differ a little, rows
    are written to files and compared one by one.
    """
    if not query.rounded or len(topics) == 1:
        digests = {engine: broker.topics.digest(topic) for engine, topic in topics.items()}
        if len(set(digests.values())) == 1:
            return next(iter(digests.values()))[0]
    files = {engine: pathlib.Path(folder) / f"{query.name}-{engine}.jsonl" for engine in topics}
    for engine, topic in topics.items():
        broker.topics.digest(topic, files[engine])
    rows = {engine: read(file, query.rounded) for engine, file in files.items()}
    difference = differing(rows, query.rounded)
    if difference:
        raise Trouble(f"{query.name}: the engines disagree.\n{difference}\nAll rows: {', '.join(map(str, files.values()))}")
    for file in files.values():
        file.unlink()
    return sum(len(group) for group in next(iter(rows.values())).values())


def read(file, rounded):
    """What is to be equal of each row, and beside it the figures that may differ a little."""
    rows = collections.defaultdict(list)
    with open(file) as lines:
        for line in lines:
            row = json.loads(line, parse_float=decimal.Decimal, parse_int=decimal.Decimal)
            apart = [row.pop(column, None) for column in rounded]
            rows[json.dumps(row, default=str, sort_keys=True)].append(apart)
    return rows


def differing(rows, rounded):
    """What is different, for a person, or nothing."""
    (one, ours), (other, theirs) = rows.items()
    lines = []
    for key in sorted(ours.keys() | theirs.keys()):
        mine, yours = ours.get(key, []), theirs.get(key, [])
        if len(mine) != len(yours):
            lines.append(f"{len(mine)} times from {one}, {len(yours)} times from {other}: {key}")
        elif rounded and not all(map(near, ordered(mine), ordered(yours), [rounded.values()] * len(mine))):
            lines.append(f"{list(rounded)} is {mine} from {one}, {yours} from {other}: {key}")
    if not lines:
        return None
    more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return "\n".join(lines[:SHOWN] + more)


def ordered(groups):
    return sorted(groups, key=str)


def near(mine, yours, allowed):
    return all(
        (one is None and other is None)
        or (one is not None and other is not None and abs(one - other) <= decimal.Decimal(str(tolerance)))
        for one, other, tolerance in zip(mine, yours, allowed)
    )
