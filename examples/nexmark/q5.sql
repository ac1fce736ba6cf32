-- Hot items: which auctions have seen the most bids in the last 10 seconds, every 2 seconds?
CREATE TABLE q5 (auction BIGINT, num BIGINT) WITH (connector = '${NEXMARK_SINK:-stdout}');

CREATE VIEW q5_counts AS
SELECT hop(INTERVAL '2 seconds', INTERVAL '10 seconds') AS window, auction, count(*) AS num
FROM bid
GROUP BY window, auction;

-- The first place is shared by all that have the most: the specification joins the counts with their maximum for that.
INSERT INTO q5
SELECT auction, num
FROM (SELECT auction, num, rank() OVER (PARTITION BY window ORDER BY num DESC) AS place FROM q5_counts)
WHERE place = 1;
