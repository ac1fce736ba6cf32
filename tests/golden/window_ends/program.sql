-- The ends of a window as columns of their own.
CREATE TABLE events (
    k TEXT, v BIGINT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'events');
SELECT window['start'] AS since, window['end'] AS until, n FROM (SELECT tumble(INTERVAL '30 seconds') AS window, count(*) AS n FROM events GROUP BY window);
