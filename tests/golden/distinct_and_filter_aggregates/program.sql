-- FILTER and DISTINCT, alone and together.
CREATE TABLE events (
    k TEXT, v BIGINT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'events');
SELECT tumble(INTERVAL '30 seconds') AS window, count(*) AS n, count(*) FILTER (WHERE k = 'a') AS only_a,
       sum(v) FILTER (WHERE v > 2) AS large, count(DISTINCT k) AS kinds, count(DISTINCT v) FILTER (WHERE k = 'b') AS b_values
FROM events GROUP BY window;
