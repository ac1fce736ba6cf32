-- Null is a key like any other, and it is not the empty text.
CREATE TABLE events (
    k TEXT, v BIGINT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'events');
SELECT k, count(*) AS n, count(v) AS given, sum(v) AS total FROM events GROUP BY tumble(INTERVAL '1 minute'), k;
