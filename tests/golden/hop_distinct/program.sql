-- A value that comes in two panes of a window counts once.
CREATE TABLE events (
    k TEXT, v BIGINT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'events');
SELECT hop(INTERVAL '10 seconds', INTERVAL '30 seconds') AS window, count(DISTINCT v) AS kinds, sum(DISTINCT v) AS total FROM events GROUP BY window;
