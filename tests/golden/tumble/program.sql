-- A row on a border belongs to the window that begins there; rows come out of order within the watermark.
CREATE TABLE events (
    k TEXT, v BIGINT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'events');
SELECT tumble(INTERVAL '30 seconds') AS window, k, count(*) AS n, sum(v) AS total, min(v) AS low, max(v) AS high, avg(v) AS mean
FROM events GROUP BY window, k;
