-- Bounded side input join: each bid with what a table of 10,000 rows says of it.
-- A join with a table that does not change: it runs on an input that ends.
CREATE TABLE q13 (auction BIGINT, bidder BIGINT, price BIGINT, date_time TIMESTAMP(3), value TEXT)
WITH (connector = '${NEXMARK_SINK:-stdout}');

CREATE TABLE side_input (key BIGINT, value TEXT)
WITH (connector = 'datagen', rows = '10000', rows_per_second = 'max', 'fields.key.kind' = 'sequence');

INSERT INTO q13
SELECT b.auction, b.bidder, b.price, b.date_time, s.value
FROM bid AS b JOIN side_input AS s ON b.auction % 10000 = s.key;
