CREATE TABLE orders (
    n BIGINT, k TEXT, g BIGINT, v BIGINT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '300 milliseconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'orders');
