-- The newest 30-second window of each figure, in Redis. Figures appear while their window is open, at most a second
-- old, and are final when the watermark has passed its end. "timestamp" is the window's start.
-- Without REDIS_URL a store inside the process takes Redis' place.

CREATE TABLE metrics_transactions (
    "timestamp" TIMESTAMP,
    transaction_count BIGINT,
    total_revenue DECIMAL(16, 2),
    avg_transaction_value DECIMAL(14, 2),
    unique_customers BIGINT,
    max_transaction DECIMAL(12, 2),
    min_transaction DECIMAL(12, 2)
) WITH (
    connector = 'redis',
    url = '${REDIS_URL:-embedded}',
    key = 'metrics:transactions',
    ttl = '1 hour',
    emit_early = '1 second'
);

CREATE VIEW transaction_windows AS
SELECT
    tumble(INTERVAL '30 seconds') AS window,
    count(*) AS transaction_count,
    CAST(sum(total_amount) AS DECIMAL(16, 2)) AS total_revenue,
    CAST(avg(total_amount) AS DECIMAL(14, 2)) AS avg_transaction_value,
    count(DISTINCT customer_id) AS unique_customers,
    max(total_amount) AS max_transaction,
    min(total_amount) AS min_transaction
FROM transactions
GROUP BY window;

INSERT INTO metrics_transactions
SELECT window['start'], transaction_count, total_revenue, avg_transaction_value, unique_customers,
       max_transaction, min_transaction
FROM transaction_windows;

-- Behaviour is what the three other topics tell; an abandoned cart is a kind of its own.
CREATE VIEW behavior AS
SELECT event_type, "timestamp" FROM user_behavior
UNION ALL
SELECT event_type, "timestamp" FROM searches
UNION ALL
SELECT event_type, "timestamp" FROM cart_events;

CREATE TABLE metrics_behavior (
    "timestamp" TIMESTAMP,
    event_type TEXT,
    event_count BIGINT
) WITH (
    connector = 'redis',
    url = '${REDIS_URL:-embedded}',
    key = 'metrics:behavior:{event_type}',
    ttl = '1 hour',
    emit_early = '1 second'
);

CREATE VIEW behavior_windows AS
SELECT tumble(INTERVAL '30 seconds') AS window, event_type, count(*) AS event_count
FROM behavior
GROUP BY window, event_type;

INSERT INTO metrics_behavior
SELECT window['start'], event_type, event_count
FROM behavior_windows;

CREATE TABLE metrics_products (
    "timestamp" TIMESTAMP,
    category TEXT,
    product_sales BIGINT,
    category_revenue DECIMAL(16, 2),
    avg_category_value DECIMAL(14, 2),
    total_quantity BIGINT,
    unique_customers BIGINT,
    unique_products BIGINT
) WITH (
    connector = 'redis',
    url = '${REDIS_URL:-embedded}',
    key = 'metrics:products:{category}',
    ttl = '1 hour',
    emit_early = '1 second'
);

CREATE VIEW product_windows AS
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
GROUP BY window, category;

INSERT INTO metrics_products
SELECT window['start'], category, product_sales, category_revenue, avg_category_value, total_quantity,
       unique_customers, unique_products
FROM product_windows;
