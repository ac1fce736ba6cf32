CREATE TABLE results (
    window_start TIMESTAMP(3), transaction_count BIGINT, total_revenue DECIMAL(16, 2), avg_transaction_value DECIMAL(14, 2),
    unique_customers BIGINT, max_transaction DECIMAL(12, 2), min_transaction DECIMAL(12, 2)
) WITH (${SINK});

INSERT INTO results
SELECT
    window_start,
    COUNT(*),
    CAST(SUM(total_amount) AS DECIMAL(16, 2)),
    CAST(AVG(total_amount) AS DECIMAL(14, 2)),
    COUNT(DISTINCT customer_id),
    MAX(total_amount),
    MIN(total_amount)
FROM TABLE(TUMBLE(TABLE transactions, DESCRIPTOR(`timestamp`), INTERVAL '30' SECOND))
GROUP BY window_start, window_end;
