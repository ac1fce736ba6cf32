-- Over an input that ends, no window is needed.
CREATE TABLE events (k TEXT, v BIGINT) WITH (connector = 'file', path = 'events.jsonl');
SELECT count(*) AS n, sum(v) AS total, count(DISTINCT k) AS kinds FROM events;
