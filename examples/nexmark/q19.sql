-- Auction top 10 price: the ten highest bids on each auction.
-- The best of all rows of a key: it runs on an input that ends.
CREATE TABLE q19 (
    auction BIGINT, bidder BIGINT, price BIGINT, channel TEXT, url TEXT, date_time TIMESTAMP(3), extra TEXT,
    rank_number BIGINT
) WITH (connector = '${NEXMARK_SINK:-stdout}');

-- Equal prices are told apart by what follows them, so that there is one right result.
INSERT INTO q19
SELECT *
FROM (
    SELECT *, row_number() OVER (PARTITION BY auction ORDER BY price DESC, date_time, bidder, extra) AS rank_number
    FROM bid
)
WHERE rank_number <= 10;
