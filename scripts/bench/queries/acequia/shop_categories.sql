-- What the shop sells of each category in each half minute (metrics_products of queries/40_metrics.sql).
CREATE VIEW items AS
SELECT
    "timestamp",
    customer_id,
    item['product_id'] AS product_id,
    item['category'] AS category,
    CAST(item['quantity'] * item['unit_price'] AS DECIMAL(12, 2)) AS amount,
    item['quantity'] AS quantity
FROM (SELECT "timestamp", customer_id, unnest(items) AS item FROM transactions);

CREATE TABLE results (
    window_start TIMESTAMP, category TEXT, product_sales BIGINT, category_revenue DECIMAL(16, 2),
    avg_category_value DECIMAL(14, 2), total_quantity BIGINT, unique_customers BIGINT, unique_products BIGINT
) WITH (connector = 'kafka', bootstrap_servers = '${BROKER}', topic = '${RESULTS}');

INSERT INTO results
SELECT window['start'], category, product_sales, category_revenue, avg_category_value, total_quantity, unique_customers,
       unique_products
FROM (
    SELECT
        tumble(INTERVAL '30 seconds') AS window,
        category,
        count(*) AS product_sales,
        CAST(sum(amount) AS DECIMAL(16, 2)) AS category_revenue,
        CAST(avg(amount) AS DECIMAL(14, 2)) AS avg_category_value,
        sum(quantity) AS total_quantity,
        count(DISTINCT customer_id) AS unique_customers,
        count(DISTINCT product_id) AS unique_products
    FROM items
    WHERE category IS NOT NULL
    GROUP BY window, category
);
