-- Nexmark q7: the highest bids of each ten seconds.
CREATE VIEW bids AS
SELECT tumble(INTERVAL '10 seconds') AS window, auction, price, bidder, date_time, extra
FROM bid
GROUP BY window, auction, price, bidder, date_time, extra;

CREATE TABLE results (auction BIGINT, price BIGINT, bidder BIGINT, date_time TIMESTAMP(3), extra TEXT)
WITH (connector = 'kafka', bootstrap_servers = '${BROKER}', topic = '${RESULTS}');

INSERT INTO results
SELECT auction, price, bidder, date_time, extra
FROM (SELECT *, RANK() OVER (PARTITION BY window ORDER BY price DESC) AS place FROM bids)
WHERE place = 1;
