-- Early results change nothing about the last word.
CREATE TABLE events (
    k TEXT, v BIGINT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'events');
CREATE TABLE latest (k TEXT, n BIGINT, total BIGINT, PRIMARY KEY (k)) WITH (connector = 'blackhole', emit_early = '1 second');
INSERT INTO latest SELECT k, count(*), sum(v) FROM events GROUP BY tumble(INTERVAL '30 seconds'), k;
