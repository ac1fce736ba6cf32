CREATE TABLE events (
    k TEXT, v BIGINT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'events');
CREATE TABLE short (window STRUCT<start TIMESTAMP, "end" TIMESTAMP>, n BIGINT) WITH (connector = 'blackhole');
CREATE TABLE long (window STRUCT<start TIMESTAMP, "end" TIMESTAMP>, n BIGINT) WITH (connector = 'blackhole');
CREATE TABLE copies (k TEXT, v BIGINT) WITH (connector = 'blackhole');
