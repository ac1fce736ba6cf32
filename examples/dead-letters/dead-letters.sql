-- Orders in, their total out; what is no order goes to dead_letters.
CREATE TABLE orders (
    id BIGINT NOT NULL, amount DECIMAL(12, 2), ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'file', path = 'examples/dead-letters/input/orders.jsonl', bad_rows = 'dead_letters');

CREATE TABLE dead_letters (reason TEXT, "offset" BIGINT, value TEXT) WITH (connector = 'stdout');

SELECT count(*) AS orders, sum(amount) AS total FROM orders GROUP BY tumble(INTERVAL '1 minute');
