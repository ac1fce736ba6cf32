-- Nexmark q11: how many bids a user makes in each session, which ends after ten seconds without one.
CREATE TABLE results (bidder BIGINT, bid_count BIGINT, window_start TIMESTAMP(3), window_end TIMESTAMP(3))
WITH (connector = 'kafka', bootstrap_servers = '${BROKER}', topic = '${RESULTS}');

INSERT INTO results
SELECT bidder, bid_count, window['start'], window['end']
FROM (SELECT session(INTERVAL '10 seconds') AS window, bidder, count(*) AS bid_count FROM bid GROUP BY window, bidder);
