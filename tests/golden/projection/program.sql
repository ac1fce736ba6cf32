-- Columns, expressions and functions.
CREATE TABLE events (
    k TEXT, v BIGINT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'events');
SELECT k, v * 2 + 1 AS w, upper(k) || '!' AS loud, v > 2 AS big FROM events;
