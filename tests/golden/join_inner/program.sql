-- Two streams on equal windows and keys: inner join.
CREATE TABLE orders (
    k TEXT, amount BIGINT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'orders');
CREATE TABLE clicks (
    k TEXT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'clicks');
CREATE VIEW sales AS
SELECT tumble(INTERVAL '30 seconds') AS window, k, sum(amount) AS amount FROM orders GROUP BY window, k;
CREATE VIEW visits AS
SELECT tumble(INTERVAL '30 seconds') AS window, k, count(*) AS clicks FROM clicks GROUP BY window, k;
SELECT sales.k AS k, sales.window['start'] AS start, amount, clicks
FROM sales INNER JOIN visits ON sales.window = visits.window AND sales.k = visits.k;
