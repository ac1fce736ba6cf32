"""How old events are when a reader sees them."""

import bisect
import datetime


def millis(text):
    """A time in UTC as JSON has it, in milliseconds since 1970."""
    moment = datetime.datetime.fromisoformat(text.rstrip("Z").replace(" ", "T"))
    return round(moment.replace(tzinfo=datetime.timezone.utc).timestamp() * 1000)


def ages(seen, appended, window):
    """Pairs of an age in milliseconds and how many events had it, youngest first.

    `seen` is what a reader has seen: when, of which key, and the value with `appended_0`, ... of each partition.
    `appended` is how many events the broker has appended, by partition and millisecond. An event counts for the value
    that is the first of its key to hold it, if that was read within `window`.
    """
    by_partition = {}
    for (partition, moment), count in sorted(appended.items()):
        by_partition.setdefault(partition, []).append((moment, count))
    newest, found = {}, []
    for at, key, value in seen:
        for partition, moments in by_partition.items():
            text = value.get(f"appended_{partition}")
            if text is None:
                continue
            latest, before = millis(text), newest.get((key, partition))
            newest[key, partition] = max(latest, before or 0)
            if before is not None and window[0] <= at < window[1]:
                found += [(at - moment, count) for moment, count in between(moments, before, latest)]
    return sorted(found)


def between(moments, after, until):
    """Those behind `after`, up to `until`."""
    first = bisect.bisect_right(moments, (after, float("inf")))
    last = bisect.bisect_right(moments, (until, float("inf")))
    return moments[first:last]


def percentile(found, share):
    """The age that so large a share of the events does not exceed."""
    wanted = share * sum(count for _, count in found)
    for age, count in found:
        wanted -= count
        if wanted <= 0:
            return age
    return found[-1][0]
