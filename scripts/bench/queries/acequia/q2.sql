-- Nexmark q2: bids on some auctions.
CREATE TABLE results (auction BIGINT, price BIGINT)
WITH (connector = 'kafka', bootstrap_servers = '${BROKER}', topic = '${RESULTS}');

INSERT INTO results SELECT auction, price FROM bid WHERE auction % 123 = 0;
