-- Windows are aligned to 1970 on both sides of it.
CREATE TABLE events (
    k TEXT, v BIGINT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'events');
SELECT tumble(INTERVAL '40 seconds') AS window, count(*) AS n, sum(v) AS total FROM events GROUP BY window;
