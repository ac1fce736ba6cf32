-- A column computed from others, used as the event time too.
CREATE TABLE events (
    k TEXT, seconds BIGINT,
    ts TIMESTAMP GENERATED ALWAYS AS (to_timestamp(seconds)),
    shout TEXT GENERATED ALWAYS AS (upper(k)),
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'events');
SELECT tumble(INTERVAL '1 minute') AS window, shout, count(*) AS n FROM events GROUP BY window, shout;
