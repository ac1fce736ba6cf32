-- Nexmark q7: the highest bids of each ten seconds.
CREATE VIEW prices AS
SELECT
    tumble(INTERVAL '10 seconds') AS window, price,
    array_agg(named_struct('auction', auction, 'bidder', bidder, 'date_time', date_time, 'extra', extra)) AS bids
FROM bid
GROUP BY window, price;

CREATE TABLE results (auction BIGINT, price BIGINT, bidder BIGINT, date_time TIMESTAMP(3), extra TEXT)
WITH (connector = 'kafka', bootstrap_servers = '${BROKER}', topic = '${RESULTS}');

INSERT INTO results
SELECT highest['auction'], price, highest['bidder'], highest['date_time'], highest['extra']
FROM (
    SELECT price, unnest(bids) AS highest
    FROM (SELECT price, bids, rank() OVER (PARTITION BY window ORDER BY price DESC) AS place FROM prices)
    WHERE place = 1
);
