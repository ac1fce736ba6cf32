-- Nexmark q5: the auctions with the most bids in the last ten seconds, every two seconds.
CREATE VIEW auction_bids AS
SELECT hop(INTERVAL '2 seconds', INTERVAL '10 seconds') AS window, auction, count(*) AS num
FROM bid
GROUP BY window, auction;

CREATE TABLE results (window_start TIMESTAMP(3), auction BIGINT, num BIGINT)
WITH (connector = 'kafka', bootstrap_servers = '${BROKER}', topic = '${RESULTS}');

INSERT INTO results
SELECT bids.window['start'], bids.auction, bids.num
FROM auction_bids AS bids
JOIN (SELECT window, max(num) AS most FROM auction_bids GROUP BY window) AS top
ON bids.window = top.window AND bids.num >= top.most;
