-- Highest bid: the bids with the highest price of each 10 seconds.
CREATE TABLE q7 (auction BIGINT, bidder BIGINT, price BIGINT, date_time TIMESTAMP(3), extra TEXT)
WITH (connector = '${NEXMARK_SINK:-stdout}');

CREATE VIEW q7_prices AS
SELECT
    tumble(INTERVAL '10 seconds') AS window, price,
    array_agg(named_struct('auction', auction, 'bidder', bidder, 'date_time', date_time, 'extra', extra)) AS bids
FROM bid
GROUP BY window, price;

INSERT INTO q7
SELECT bid['auction'], bid['bidder'], price, bid['date_time'], bid['extra']
FROM (
    SELECT price, unnest(bids) AS bid
    FROM (SELECT price, bids, rank() OVER (PARTITION BY window ORDER BY price DESC) AS place FROM q7_prices)
    WHERE place = 1
);
