-- Sessions of different keys may begin together and end apart: their start alone is no window.
CREATE TABLE events (n BIGINT, ts TIMESTAMP, k TEXT, v BIGINT, tags TEXT[], WATERMARK FOR ts AS ts - INTERVAL '10 seconds')
    WITH (connector = 'file', path = 'events.jsonl');
CREATE VIEW a AS SELECT session(INTERVAL '2 seconds') AS window, k, count(*) AS n, sum(v) AS total FROM events GROUP BY window, k;
SELECT since, count(*) AS sessions, sum(n) AS n FROM (SELECT window['start'] AS since, n FROM a) GROUP BY since;
