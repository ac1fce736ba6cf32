-- Nothing in: windows give nothing, and a sum over everything is one row.
CREATE TABLE events (
    k TEXT, v BIGINT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'events');
CREATE TABLE history (k TEXT, v BIGINT) WITH (connector = 'file', path = 'history.jsonl');
CREATE TABLE windows (k TEXT, n BIGINT) WITH (connector = 'blackhole');
CREATE TABLE totals (n BIGINT, total BIGINT) WITH (connector = 'blackhole');
INSERT INTO windows SELECT k, count(*) FROM events GROUP BY tumble(INTERVAL '1 minute'), k;
INSERT INTO totals SELECT count(*), sum(v) FROM history;
