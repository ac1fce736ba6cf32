-- A day has many windows: a cast that makes them equal is no window.
CREATE TABLE events (n BIGINT, ts TIMESTAMP, k TEXT, v BIGINT, tags TEXT[], WATERMARK FOR ts AS ts - INTERVAL '10 seconds')
    WITH (connector = 'file', path = 'events.jsonl');
CREATE VIEW a AS SELECT tumble(INTERVAL '10 seconds') AS window, k, count(*) AS n, sum(v) AS total FROM events GROUP BY window, k;
SELECT CAST(window.start AS DATE) AS day, k, sum(n) AS n FROM a GROUP BY CAST(window.start AS DATE), k;
