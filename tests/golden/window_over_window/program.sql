-- One-minute windows over the sums of ten-second windows.
CREATE TABLE events (
    k TEXT, v BIGINT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'events');
CREATE VIEW panes AS
SELECT tumble(INTERVAL '10 seconds') AS pane, k, sum(v) AS total FROM events GROUP BY pane, k;
SELECT tumble(INTERVAL '1 minute') AS window, k, count(*) AS panes, sum(total) AS total, max(total) AS highest
FROM panes GROUP BY window, k;
