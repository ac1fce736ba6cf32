-- A key shows its newest window, whichever partition's rows come first.
CREATE TABLE events (
    k TEXT, v BIGINT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'events');
CREATE TABLE latest (k TEXT, since TIMESTAMP, n BIGINT, PRIMARY KEY (k)) WITH (connector = 'blackhole');
INSERT INTO latest SELECT k, window['start'], n
FROM (SELECT tumble(INTERVAL '30 seconds') AS window, k, count(*) AS n FROM events GROUP BY window, k);
