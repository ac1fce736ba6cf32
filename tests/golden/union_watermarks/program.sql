-- One topic is an hour ahead of the other: the window waits for both, and nothing is late.
CREATE TABLE fast (
    k TEXT, v BIGINT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'fast');
CREATE TABLE slow (
    k TEXT, v BIGINT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'slow');
CREATE VIEW everything AS SELECT k, v, ts FROM fast UNION ALL SELECT k, v, ts FROM slow;
SELECT tumble(INTERVAL '30 seconds') AS window, count(*) AS n, sum(v) AS total FROM everything GROUP BY window;
