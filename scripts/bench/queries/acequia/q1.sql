-- Nexmark q1: prices in euros.
CREATE TABLE results (auction BIGINT, bidder BIGINT, price DECIMAL(23, 3), date_time TIMESTAMP(3), extra TEXT)
WITH (connector = 'kafka', bootstrap_servers = '${BROKER}', topic = '${RESULTS}');

INSERT INTO results SELECT auction, bidder, 0.908 * price, date_time, extra FROM bid;
