-- The type of what is rounded hangs on the places, and groups and sums must not notice.
CREATE TABLE sales (
    k TEXT, amount DECIMAL(10, 2), places INT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'sales');
CREATE TABLE groups (rounded DECIMAL(20, 4), n BIGINT) WITH (connector = 'file', path = 'groups.jsonl');
INSERT INTO groups SELECT round(amount, 1), count(*) FROM sales GROUP BY tumble(INTERVAL '1 minute'), round(amount, 1);
CREATE TABLE sums (k TEXT, ones DECIMAL(20, 2), total DECIMAL(20, 2), tens DECIMAL(20, 2))
WITH (connector = 'file', path = 'sums.jsonl');
INSERT INTO sums
SELECT k, sum(round(amount)), round(sum(amount), 1), sum(round(amount, -1)) FROM sales
GROUP BY tumble(INTERVAL '1 minute'), k;
SELECT k, round(amount, 1) + 1 AS more, round(amount, places) AS own FROM sales;
