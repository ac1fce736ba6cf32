-- Moments with an offset, with fractions, in another column than the event time.
CREATE TABLE events (
    ts TIMESTAMP, other TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'events');
SELECT ts, other, date_trunc('minute', other) AS minute FROM events;
