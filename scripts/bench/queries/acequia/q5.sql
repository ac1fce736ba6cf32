-- Nexmark q5: the auctions with the most bids in the last ten seconds, every two seconds.
CREATE VIEW counts AS
SELECT hop(INTERVAL '2 seconds', INTERVAL '10 seconds') AS window, auction, count(*) AS num
FROM bid
GROUP BY window, auction;

CREATE TABLE results (window_start TIMESTAMP(3), auction BIGINT, num BIGINT)
WITH (connector = 'kafka', bootstrap_servers = '${BROKER}', topic = '${RESULTS}');

-- The first place is shared by all that have the most.
INSERT INTO results
SELECT window['start'], auction, num
FROM (SELECT window, auction, num, rank() OVER (PARTITION BY window ORDER BY num DESC) AS place FROM counts)
WHERE place = 1;
