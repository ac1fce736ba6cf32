-- Find last bid: the newest bid of each bidder on each auction.
-- The newest of all rows of a key: it runs on an input that ends.
CREATE TABLE q18 (
    auction BIGINT, bidder BIGINT, price BIGINT, channel TEXT, url TEXT, date_time TIMESTAMP(3), extra TEXT
) WITH (connector = '${NEXMARK_SINK:-stdout}');

-- Bids of one time are told apart by what follows it, so that there is one right result.
INSERT INTO q18
SELECT auction, bidder, price, channel, url, date_time, extra
FROM (
    SELECT
        *, row_number() OVER (PARTITION BY bidder, auction ORDER BY date_time DESC, price DESC, extra) AS place
    FROM bid
)
WHERE place <= 1;
