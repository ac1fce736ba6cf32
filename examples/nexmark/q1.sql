-- Currency conversion: each bid in euros.
CREATE TABLE q1 (auction BIGINT, bidder BIGINT, price DECIMAL(23, 3), date_time TIMESTAMP(3), extra TEXT)
WITH (connector = '${NEXMARK_SINK:-stdout}');

INSERT INTO q1 SELECT auction, bidder, 0.908 * price, date_time, extra FROM bid;
