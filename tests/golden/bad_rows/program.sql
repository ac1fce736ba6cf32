-- Records that cannot be read go to a table, as they came.
CREATE TABLE events (
    k TEXT NOT NULL, v BIGINT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'events', bad_rows = 'dead_letters');
CREATE TABLE dead_letters (reason TEXT, "offset" BIGINT, value TEXT) WITH (connector = 'blackhole');
SELECT k, v FROM events WHERE ts IS NOT NULL;
