-- Windows of different widths join where they end; of equal ones the start is enough.
CREATE TABLE events (n BIGINT, ts TIMESTAMP, k TEXT, v BIGINT, tags TEXT[], WATERMARK FOR ts AS ts - INTERVAL '10 seconds')
    WITH (connector = 'file', path = 'events.jsonl');
CREATE TABLE clicks (n BIGINT, ts TIMESTAMP, k TEXT, WATERMARK FOR ts AS ts - INTERVAL '10 seconds')
    WITH (connector = 'file', path = 'clicks.jsonl');
CREATE VIEW a AS SELECT hop(INTERVAL '10 seconds', INTERVAL '30 seconds') AS window, k, count(*) AS n, sum(v) AS total FROM events GROUP BY window, k;
CREATE VIEW b AS SELECT tumble(INTERVAL '10 seconds') AS window, k, count(*) AS m FROM clicks GROUP BY window, k;
SELECT 'ends' AS how, a.k AS k, n, m FROM a JOIN b ON a.window['end'] = b.window['end'] AND a.k = b.k UNION ALL SELECT 'starts', x.k, x.m, y.m FROM b AS x JOIN b AS y ON x.window['start'] = y.window['start'] AND x.k < y.k;
