-- Partitions of one topic that are hours apart: each has its own watermark.
CREATE TABLE events (
    k TEXT, v BIGINT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'events');
SELECT tumble(INTERVAL '1 hour') AS window, k, sum(v) AS total FROM events GROUP BY window, k;
