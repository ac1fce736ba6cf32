-- Nexmark q0: every bid as it is.
CREATE TABLE results (auction BIGINT, bidder BIGINT, price BIGINT, date_time TIMESTAMP(3), extra TEXT)
WITH (connector = 'kafka', bootstrap_servers = '${BROKER}', topic = '${RESULTS}');

INSERT INTO results SELECT auction, bidder, price, date_time, extra FROM bid;
