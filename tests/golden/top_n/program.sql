-- The two best of each window.
CREATE TABLE events (
    k TEXT, v BIGINT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'events');
SELECT window, k, total, place FROM (
    SELECT window, k, total, ROW_NUMBER() OVER (PARTITION BY window ORDER BY total DESC, k) AS place
    FROM (SELECT tumble(INTERVAL '30 seconds') AS window, k, sum(v) AS total FROM events GROUP BY window, k)
) WHERE place <= 2;
