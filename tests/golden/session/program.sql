-- A gap of exactly 10 seconds ends a window; one row alone makes a window of 10 seconds.
CREATE TABLE events (
    k TEXT, v BIGINT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'events');
SELECT session(INTERVAL '10 seconds') AS window, k, count(*) AS n, sum(v) AS total FROM events GROUP BY window, k;
