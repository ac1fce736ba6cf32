-- NOT NULL means the same for every query: a record without k is bad though no query reads k.
CREATE TABLE events (
    k TEXT NOT NULL, v BIGINT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'events', bad_rows = 'dead_letters');
CREATE TABLE dead_letters (reason TEXT, error TEXT, "offset" BIGINT) WITH (connector = 'blackhole');
CREATE TABLE totals (n BIGINT, total BIGINT) WITH (connector = 'blackhole');
INSERT INTO totals SELECT count(*), sum(v) FROM events GROUP BY tumble(INTERVAL '1 minute');
SELECT v FROM events;
