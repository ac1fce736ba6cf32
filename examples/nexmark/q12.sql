-- Processing time windows: how many bids does a user make within 10 seconds of the clock?
CREATE TABLE q12 (bidder BIGINT, bid_count BIGINT, starttime TIMESTAMP(3), endtime TIMESTAMP(3))
WITH (connector = '${NEXMARK_SINK:-stdout}');

-- The same bids, in the order and at the time in which they come.
CREATE TABLE q12_bid (bidder BIGINT, made_at TIMESTAMP(3), WATERMARK FOR made_at AS made_at)
WITH (
    connector = 'nexmark', events_of = 'bid',
    events = '${NEXMARK_EVENTS:-100000}', event_rate = '${NEXMARK_RATE:-max}', event_delay = '${NEXMARK_DELAY:-1 ms}'
);

INSERT INTO q12
SELECT bidder, bid_count, window['start'], window['end']
FROM (
    SELECT tumble(INTERVAL '10 seconds') AS window, bidder, count(*) AS bid_count FROM q12_bid GROUP BY window, bidder
);
