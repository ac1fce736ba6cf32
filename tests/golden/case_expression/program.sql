-- CASE in a projection and as a group.
CREATE TABLE events (
    k TEXT, v BIGINT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'events');
SELECT CASE WHEN v < 10 THEN 'small' WHEN v < 100 THEN 'medium' ELSE 'large' END AS size, count(*) AS n
FROM events GROUP BY tumble(INTERVAL '1 minute'), size;
