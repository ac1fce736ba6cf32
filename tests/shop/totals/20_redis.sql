-- The newest window of each figure.
CREATE TABLE newest_window (
    "timestamp" TIMESTAMP, transactions BIGINT, revenue DECIMAL(16, 2), highest DECIMAL(12, 2), lowest DECIMAL(12, 2),
    customers BIGINT
) WITH (connector = 'redis', url = '${REDIS_URL}', key = 'totals:window');

INSERT INTO newest_window
SELECT window['start'], transactions, revenue, highest, lowest, customers FROM windows;

CREATE TABLE newest_category (
    "timestamp" TIMESTAMP, category TEXT, sales BIGINT, revenue DECIMAL(16, 2), quantity BIGINT, customers BIGINT,
    products BIGINT
) WITH (connector = 'redis', url = '${REDIS_URL}', key = 'totals:category:{category}');

INSERT INTO newest_category
SELECT window['start'], category, sales, revenue, quantity, customers, products FROM categories;
