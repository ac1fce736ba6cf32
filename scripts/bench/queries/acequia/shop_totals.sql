-- The shop's figures of each half minute (metrics_transactions of queries/40_metrics.sql).
CREATE TABLE results (
    window_start TIMESTAMP, transaction_count BIGINT, total_revenue DECIMAL(16, 2), avg_transaction_value DECIMAL(14, 2),
    unique_customers BIGINT, max_transaction DECIMAL(12, 2), min_transaction DECIMAL(12, 2)
) WITH (connector = 'kafka', bootstrap_servers = '${BROKER}', topic = '${RESULTS}');

INSERT INTO results
SELECT window['start'], transaction_count, total_revenue, avg_transaction_value, unique_customers, max_transaction,
       min_transaction
FROM (
    SELECT
        tumble(INTERVAL '30 seconds') AS window,
        count(*) AS transaction_count,
        CAST(sum(total_amount) AS DECIMAL(16, 2)) AS total_revenue,
        CAST(avg(total_amount) AS DECIMAL(14, 2)) AS avg_transaction_value,
        count(DISTINCT customer_id) AS unique_customers,
        max(total_amount) AS max_transaction,
        min(total_amount) AS min_transaction
    FROM transactions
    GROUP BY window
);
