-- One row an item; an empty or missing list gives none.
CREATE TABLE orders (
    id BIGINT, ts TIMESTAMP, items STRUCT<product TEXT, quantity INT, price DECIMAL(12, 2)>[],
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'orders');
SELECT id, item['product'] AS product, item['quantity'] * item['price'] AS amount
FROM (SELECT id, unnest(items) AS item FROM orders);
