-- The two best-selling products of each half minute.
CREATE TABLE sales (
    product TEXT, quantity BIGINT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'file', path = 'examples/top-n/input/sales.jsonl');

CREATE VIEW totals AS
SELECT tumble(INTERVAL '30 seconds') AS window, product, sum(quantity) AS sold
FROM sales
GROUP BY window, product;

SELECT window, place, product, sold
FROM (
    SELECT window, product, sold, ROW_NUMBER() OVER (PARTITION BY window ORDER BY sold DESC, product) AS place
    FROM totals
)
WHERE place <= 2;
