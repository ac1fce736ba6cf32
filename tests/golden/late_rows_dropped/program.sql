-- Without a table for them, late rows are counted and dropped. A hop's row is late only when all its windows are closed.
CREATE TABLE events (
    k TEXT, v BIGINT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'events');
SELECT hop(INTERVAL '10 seconds', INTERVAL '30 seconds') AS window, count(*) AS n FROM events GROUP BY window;
