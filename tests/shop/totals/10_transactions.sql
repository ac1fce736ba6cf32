-- What the other files add up.
CREATE TABLE transactions (
    "timestamp" TIMESTAMP NOT NULL,
    customer_id BIGINT NOT NULL,
    total_amount DECIMAL(12, 2) NOT NULL,
    items STRUCT<product_id BIGINT, category TEXT, quantity INT, unit_price DECIMAL(12, 2)>[],
    WATERMARK FOR "timestamp" AS "timestamp" - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = '${KAFKA_BROKERS}', topic = 'transactions');

CREATE VIEW windows AS
SELECT
    tumble(INTERVAL '30 seconds') AS window,
    count(*) AS transactions,
    CAST(sum(total_amount) AS DECIMAL(16, 2)) AS revenue,
    max(total_amount) AS highest,
    min(total_amount) AS lowest,
    count(DISTINCT customer_id) AS customers
FROM transactions
GROUP BY window;

CREATE VIEW items AS
SELECT "timestamp", customer_id, item['product_id'] AS product_id, item['category'] AS category,
       item['quantity'] AS quantity, item['quantity'] * item['unit_price'] AS amount
FROM (SELECT "timestamp", customer_id, unnest(items) AS item FROM transactions);

CREATE VIEW categories AS
SELECT
    tumble(INTERVAL '30 seconds') AS window,
    category,
    count(*) AS sales,
    CAST(sum(amount) AS DECIMAL(16, 2)) AS revenue,
    sum(quantity) AS quantity,
    count(DISTINCT customer_id) AS customers,
    count(DISTINCT product_id) AS products
FROM items
GROUP BY window, category;

CREATE VIEW item_counts AS
SELECT tumble(INTERVAL '30 seconds') AS window, count(*) AS items, sum(quantity) AS quantity
FROM items
GROUP BY window;
