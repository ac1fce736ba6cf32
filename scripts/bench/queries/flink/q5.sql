CREATE TABLE results (window_start TIMESTAMP(3), auction BIGINT, num BIGINT)
WITH (${SINK});

INSERT INTO results
SELECT bids.window_start, bids.auction, bids.num
FROM (
    SELECT window_start, window_end, auction, COUNT(*) AS num
    FROM TABLE(HOP(TABLE bid, DESCRIPTOR(date_time), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
    GROUP BY window_start, window_end, auction
) AS bids
JOIN (
    SELECT window_start, window_end, MAX(num) AS most
    FROM (
        SELECT window_start, window_end, auction, COUNT(*) AS num
        FROM TABLE(HOP(TABLE bid, DESCRIPTOR(date_time), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
        GROUP BY window_start, window_end, auction
    )
    GROUP BY window_start, window_end
) AS top
ON bids.window_start = top.window_start AND bids.window_end = top.window_end AND bids.num >= top.most;
