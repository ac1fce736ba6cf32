CREATE TABLE clicks (
    n BIGINT, k TEXT, g BIGINT, v BIGINT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '300 milliseconds'
) WITH (
    connector = 'kafka', bootstrap_servers = 'embedded', topic = 'clicks',
    late_rows = 'late', bad_rows = 'dead_letters'
);
CREATE TABLE late (n BIGINT, k TEXT) WITH (connector = 'blackhole');
CREATE TABLE dead_letters ("table" TEXT, "partition" INT, "offset" BIGINT, reason TEXT) WITH (connector = 'blackhole');
