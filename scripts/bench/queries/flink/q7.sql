CREATE TABLE results (auction BIGINT, price BIGINT, bidder BIGINT, date_time TIMESTAMP_LTZ(3), extra STRING)
WITH (${SINK});

INSERT INTO results
SELECT bids.auction, bids.price, bids.bidder, bids.date_time, bids.extra
FROM (SELECT * FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(date_time), INTERVAL '10' SECOND))) AS bids
JOIN (
    SELECT window_start, window_end, MAX(price) AS highest
    FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(date_time), INTERVAL '10' SECOND))
    GROUP BY window_start, window_end
) AS top
ON bids.window_start = top.window_start AND bids.window_end = top.window_end AND bids.price = top.highest;
