-- Rows of two tables in one sink; equal rows stay.
CREATE TABLE clicks (
    page TEXT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'clicks');
CREATE TABLE views (
    page TEXT, seconds INT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'views');
SELECT 'click' AS kind, page FROM clicks UNION ALL SELECT 'view' AS kind, page FROM views WHERE seconds > 1;
