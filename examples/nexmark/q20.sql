-- Expand bid with auction: bids with what is known of their auction, in category 10.
-- A join without windows: it runs on an input that ends.
CREATE TABLE q20 (
    auction BIGINT, bidder BIGINT, price BIGINT, channel TEXT, url TEXT, bid_date_time TIMESTAMP(3), bid_extra TEXT,
    item_name TEXT, description TEXT, initial_bid BIGINT, reserve BIGINT, auction_date_time TIMESTAMP(3),
    expires TIMESTAMP(3), seller BIGINT, category BIGINT, auction_extra TEXT
) WITH (connector = '${NEXMARK_SINK:-stdout}');

INSERT INTO q20
SELECT
    b.auction, b.bidder, b.price, b.channel, b.url, b.date_time, b.extra,
    a.item_name, a.description, a.initial_bid, a.reserve, a.date_time, a.expires, a.seller, a.category, a.extra
FROM bid AS b JOIN auction AS a ON b.auction = a.id
WHERE a.category = 10;
