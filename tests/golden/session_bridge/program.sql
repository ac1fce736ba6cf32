-- Two partitions: the row at second 8 joins what would be two sessions.
CREATE TABLE events (
    k TEXT, v BIGINT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'events');
SELECT session(INTERVAL '10 seconds') AS window, k, count(*) AS n, sum(v) AS total FROM events GROUP BY window, k;
