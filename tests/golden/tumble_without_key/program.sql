-- The window alone is the group, written with a window function in GROUP BY only.
CREATE TABLE events (
    k TEXT, v BIGINT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'events');
SELECT count(*) AS n, sum(v) AS total FROM events GROUP BY tumble(INTERVAL '1 minute');
