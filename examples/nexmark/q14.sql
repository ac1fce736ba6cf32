-- Calculation: bids of a certain price, with the time of day and how often 'c' is in a text.
CREATE TABLE q14 (
    auction BIGINT, bidder BIGINT, price DECIMAL(23, 3), bid_time_type TEXT, date_time TIMESTAMP(3), extra TEXT,
    c_counts BIGINT
) WITH (connector = '${NEXMARK_SINK:-stdout}');

INSERT INTO q14
SELECT
    auction,
    bidder,
    0.908 * price,
    CASE
        WHEN hour(date_time) >= 8 AND hour(date_time) <= 18 THEN 'dayTime'
        WHEN hour(date_time) <= 6 OR hour(date_time) >= 20 THEN 'nightTime'
        ELSE 'otherTime'
    END,
    date_time,
    extra,
    regexp_count(extra, 'c')
FROM bid
WHERE 0.908 * price > 1000000 AND 0.908 * price < 50000000;
