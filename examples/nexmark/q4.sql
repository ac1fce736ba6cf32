-- Average price for a category: of the winning bids of all auctions.
-- A join without windows, and an aggregate of one: it runs on an input that ends.
CREATE TABLE q4 (category BIGINT, final BIGINT) WITH (connector = '${NEXMARK_SINK:-stdout}');

INSERT INTO q4
SELECT category, avg(final)
FROM (
    SELECT max(b.price) AS final, a.category
    FROM auction AS a JOIN bid AS b ON a.id = b.auction AND b.date_time BETWEEN a.date_time AND a.expires
    GROUP BY a.id, a.category
)
GROUP BY category;
