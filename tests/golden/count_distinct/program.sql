-- Distinct values from several partitions meet; null is no value.
CREATE TABLE events (
    k TEXT, v BIGINT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'events');
SELECT k, count(DISTINCT v) AS kinds FROM events GROUP BY tumble(INTERVAL '1 minute'), k;
