-- A row is late when its own partition's watermark had closed all its windows before it came: for each query by itself.
CREATE TABLE events (
    k TEXT, v BIGINT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'events', late_rows = 'late_events');
CREATE TABLE late_events (k TEXT, v BIGINT, ts TIMESTAMP, query TEXT) WITH (connector = 'blackhole');
CREATE TABLE totals (window STRUCT<start TIMESTAMP, "end" TIMESTAMP>, n BIGINT, total BIGINT) WITH (connector = 'blackhole');
INSERT INTO totals SELECT tumble(INTERVAL '30 seconds') AS window, count(*) AS n, sum(v) AS total FROM events GROUP BY window;
CREATE TABLE by_minute (window STRUCT<start TIMESTAMP, "end" TIMESTAMP>, n BIGINT) WITH (connector = 'blackhole');
INSERT INTO by_minute SELECT tumble(INTERVAL '1 minute') AS window, count(*) AS n FROM events GROUP BY window;
