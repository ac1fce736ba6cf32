-- The windows of an outer join's other side are null for rows of all windows, which are one group.
CREATE TABLE events (n BIGINT, ts TIMESTAMP, k TEXT, v BIGINT, tags TEXT[], WATERMARK FOR ts AS ts - INTERVAL '10 seconds')
    WITH (connector = 'file', path = 'events.jsonl');
CREATE TABLE clicks (n BIGINT, ts TIMESTAMP, k TEXT, WATERMARK FOR ts AS ts - INTERVAL '10 seconds')
    WITH (connector = 'file', path = 'clicks.jsonl');
CREATE VIEW a AS SELECT tumble(INTERVAL '10 seconds') AS window, k, count(*) AS n, sum(v) AS total FROM events GROUP BY window, k;
CREATE VIEW b AS SELECT tumble(INTERVAL '10 seconds') AS window, k, count(*) AS m FROM clicks GROUP BY window, k;
SELECT b.window AS window, count(*) AS c, sum(n) AS n FROM a LEFT JOIN b ON a.window = b.window AND a.k = b.k GROUP BY b.window;
