-- A row is late when its own partition's watermark had closed all its windows before it came.
CREATE TABLE events (
    k TEXT, v BIGINT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'events', late_rows = 'late_events');
CREATE TABLE late_events (k TEXT, v BIGINT, ts TIMESTAMP) WITH (connector = 'blackhole');
CREATE TABLE totals (window STRUCT<start TIMESTAMP, "end" TIMESTAMP>, n BIGINT, total BIGINT) WITH (connector = 'blackhole');
INSERT INTO totals SELECT tumble(INTERVAL '30 seconds') AS window, count(*) AS n, sum(v) AS total FROM events GROUP BY window;
