-- Each row is in three windows.
CREATE TABLE events (
    k TEXT, v BIGINT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'events');
SELECT hop(INTERVAL '10 seconds', INTERVAL '30 seconds') AS window, k, count(*) AS n, sum(v) AS total FROM events GROUP BY window, k;
