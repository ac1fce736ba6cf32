-- HAVING on a window's aggregate.
CREATE TABLE events (
    k TEXT, v BIGINT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'events');
SELECT tumble(INTERVAL '30 seconds') AS window, k, count(*) AS n FROM events GROUP BY window, k HAVING count(*) > 1;
