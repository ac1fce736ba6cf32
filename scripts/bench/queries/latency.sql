-- The shop's window by category (metrics_products of queries/40_metrics.sql) into Redis, and with it when the broker has
-- taken the newest record of each partition that the figures hold.
CREATE TABLE transactions (
    event_type TEXT NOT NULL,
    "timestamp" TIMESTAMP NOT NULL,
    customer_id BIGINT,
    items STRUCT<product_id BIGINT, product_name TEXT, category TEXT, quantity INT,
                 unit_price DECIMAL(12, 2), product_price DECIMAL(12, 2)>[],
    "partition" INT METADATA FROM 'partition',
    appended TIMESTAMP(3) METADATA FROM 'timestamp',
    WATERMARK FOR "timestamp" AS "timestamp" - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = '${BROKER}', topic = '${TOPIC}');

CREATE VIEW items AS
SELECT
    "timestamp", customer_id, "partition", appended,
    item['product_id'] AS product_id,
    item['category'] AS category,
    CAST(item['quantity'] * item['unit_price'] AS DECIMAL(12, 2)) AS amount,
    item['quantity'] AS quantity
FROM (SELECT "timestamp", customer_id, "partition", appended, unnest(items) AS item FROM transactions);

CREATE TABLE newest (
    "timestamp" TIMESTAMP, category TEXT, product_sales BIGINT, category_revenue DECIMAL(16, 2),
    avg_category_value DECIMAL(14, 2), total_quantity BIGINT, unique_customers BIGINT, unique_products BIGINT,
    appended_0 TIMESTAMP(3), appended_1 TIMESTAMP(3)
) WITH (connector = 'redis', url = '${REDIS_URL}', key = 'latency:{category}', ttl = '1 hour', emit_early = '100 ms');

INSERT INTO newest
SELECT window['start'], category, product_sales, category_revenue, avg_category_value, total_quantity,
       unique_customers, unique_products, appended_0, appended_1
FROM (
    SELECT
        tumble(INTERVAL '30 seconds') AS window,
        category,
        count(*) AS product_sales,
        CAST(sum(amount) AS DECIMAL(16, 2)) AS category_revenue,
        CAST(avg(amount) AS DECIMAL(14, 2)) AS avg_category_value,
        sum(quantity) AS total_quantity,
        count(DISTINCT customer_id) AS unique_customers,
        count(DISTINCT product_id) AS unique_products,
        max(appended) FILTER (WHERE "partition" = 0) AS appended_0,
        max(appended) FILTER (WHERE "partition" = 1) AS appended_1
    FROM items
    WHERE category IS NOT NULL
    GROUP BY window, category
);
