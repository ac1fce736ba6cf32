-- Of a full join, the window of either side is the window.
CREATE TABLE events (n BIGINT, ts TIMESTAMP, k TEXT, v BIGINT, tags TEXT[], WATERMARK FOR ts AS ts - INTERVAL '10 seconds')
    WITH (connector = 'file', path = 'events.jsonl');
CREATE TABLE clicks (n BIGINT, ts TIMESTAMP, k TEXT, WATERMARK FOR ts AS ts - INTERVAL '10 seconds')
    WITH (connector = 'file', path = 'clicks.jsonl');
CREATE VIEW a AS SELECT tumble(INTERVAL '10 seconds') AS window, k, count(*) AS n, sum(v) AS total FROM events GROUP BY window, k;
CREATE VIEW b AS SELECT tumble(INTERVAL '10 seconds') AS window, k, count(*) AS m FROM clicks GROUP BY window, k;
SELECT coalesce(a.window, b.window) AS window, count(*) AS c, sum(n) AS n, sum(m) AS m FROM a FULL JOIN b ON a.window = b.window AND a.k = b.k GROUP BY coalesce(a.window, b.window);
