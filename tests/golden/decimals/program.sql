-- No cent is lost: 0.10 three times is 0.30, and large sums are exact.
CREATE TABLE sales (
    k TEXT, amount DECIMAL(12, 2), ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'sales');
SELECT k, sum(amount) AS total, min(amount) AS low, max(amount) AS high, CAST(sum(amount) AS TEXT) AS text FROM sales GROUP BY tumble(INTERVAL '1 minute'), k;
