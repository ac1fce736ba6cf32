-- User sessions: how many bids has a user made in each session? 10 seconds without a bid end it.
CREATE TABLE q11 (bidder BIGINT, bid_count BIGINT, starttime TIMESTAMP(3), endtime TIMESTAMP(3))
WITH (connector = '${NEXMARK_SINK:-stdout}');

INSERT INTO q11
SELECT bidder, bid_count, window['start'], window['end']
FROM (
    SELECT session(INTERVAL '10 seconds') AS window, bidder, count(*) AS bid_count FROM bid GROUP BY window, bidder
);
