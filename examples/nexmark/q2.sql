-- Selection: the bids on certain auctions.
CREATE TABLE q2 (auction BIGINT, price BIGINT) WITH (connector = '${NEXMARK_SINK:-stdout}');

INSERT INTO q2 SELECT auction, price FROM bid WHERE auction % 123 = 0;
