CREATE TABLE results (bidder BIGINT, bid_count BIGINT, window_start TIMESTAMP(3), window_end TIMESTAMP(3))
WITH (${SINK});

-- Flink puts two bids that are exactly the gap apart into one session, Beam's specification and Acequia into two. Times are
-- whole milliseconds, so that a gap of one less gives the same sessions.
INSERT INTO results
SELECT bidder, COUNT(*), window_start, window_end + INTERVAL '0.001' SECOND
FROM TABLE(SESSION(TABLE bid PARTITION BY bidder, DESCRIPTOR(date_time), INTERVAL '9.999' SECOND))
GROUP BY bidder, window_start, window_end;
