-- Nexmark q1: prices in euros.
CREATE TABLE results (auction BIGINT, bidder BIGINT, price DECIMAL(23, 3), date_time TIMESTAMP(3), extra TEXT)
WITH (connector = 'kafka', bootstrap_servers = '${BROKER}', topic = '${RESULTS}');

INSERT INTO results
SELECT auction, bidder, CAST(CAST(0.908 AS DECIMAL(4, 3)) * price AS DECIMAL(23, 3)), date_time, extra FROM bid;
