-- Average selling price by seller: of their last ten closed auctions and the newest.
-- A join without windows and rows in an order of their own: it runs on an input that ends.
CREATE TABLE q6 (seller BIGINT, avg_price BIGINT) WITH (connector = '${NEXMARK_SINK:-stdout}');

-- Equal prices and times are told apart by what follows them, so that there is one right result.
INSERT INTO q6
SELECT
    seller,
    avg(price) OVER (PARTITION BY seller ORDER BY date_time, id ROWS BETWEEN 10 PRECEDING AND CURRENT ROW)
FROM (
    SELECT
        a.id, a.seller, b.price, b.date_time,
        row_number() OVER (PARTITION BY a.id, a.seller ORDER BY b.price DESC, b.date_time, b.bidder, b.extra) AS place
    FROM auction AS a JOIN bid AS b ON a.id = b.auction AND b.date_time BETWEEN a.date_time AND a.expires
)
WHERE place = 1;
