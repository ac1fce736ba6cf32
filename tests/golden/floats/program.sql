-- Floating sums come out the same to 9 digits, however rows are split.
CREATE TABLE events (
    k TEXT, x DOUBLE, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'events');
SELECT k, sum(x) AS total, avg(x) AS mean, stddev_pop(x) AS spread FROM events GROUP BY tumble(INTERVAL '1 minute'), k;
