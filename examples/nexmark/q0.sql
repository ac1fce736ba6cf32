-- Pass through: what reading and writing alone cost.
CREATE TABLE q0 (auction BIGINT, bidder BIGINT, price BIGINT, date_time TIMESTAMP(3), extra TEXT)
WITH (connector = '${NEXMARK_SINK:-stdout}');

INSERT INTO q0 SELECT auction, bidder, price, date_time, extra FROM bid;
