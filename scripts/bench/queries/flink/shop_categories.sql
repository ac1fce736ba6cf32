CREATE TEMPORARY VIEW items AS
SELECT
    `timestamp`,
    customer_id,
    product_id,
    category,
    CAST(quantity * unit_price AS DECIMAL(12, 2)) AS amount,
    quantity
FROM transactions
CROSS JOIN UNNEST(items) AS item (product_id, product_name, category, quantity, unit_price, product_price)
WHERE category IS NOT NULL;

CREATE TABLE results (
    window_start TIMESTAMP(3), category STRING, product_sales BIGINT, category_revenue DECIMAL(16, 2),
    avg_category_value DECIMAL(14, 2), total_quantity BIGINT, unique_customers BIGINT, unique_products BIGINT
) WITH (${SINK});

INSERT INTO results
SELECT
    window_start,
    category,
    COUNT(*),
    CAST(SUM(amount) AS DECIMAL(16, 2)),
    CAST(AVG(amount) AS DECIMAL(14, 2)),
    SUM(CAST(quantity AS BIGINT)),
    COUNT(DISTINCT customer_id),
    COUNT(DISTINCT product_id)
FROM TABLE(TUMBLE(TABLE items, DESCRIPTOR(`timestamp`), INTERVAL '30' SECOND))
GROUP BY window_start, window_end, category;
