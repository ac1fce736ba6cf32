-- Nexmark q14: a filter and some reckoning. The count of a character is built-in functions in both engines, where Flink's
-- Nexmark has a function of its own in Java.
CREATE TABLE results (
    auction BIGINT, bidder BIGINT, price DECIMAL(23, 3), bid_time_type TEXT, date_time TIMESTAMP(3), extra TEXT, c_counts BIGINT
) WITH (connector = 'kafka', bootstrap_servers = '${BROKER}', topic = '${RESULTS}');

INSERT INTO results
SELECT auction, bidder, 0.908 * price,
       CASE WHEN hour(date_time) >= 8 AND hour(date_time) <= 18 THEN 'dayTime'
            WHEN hour(date_time) <= 6 OR hour(date_time) >= 20 THEN 'nightTime'
            ELSE 'otherTime' END,
       date_time, extra, char_length(extra) - char_length(replace(extra, 'c', ''))
FROM bid
WHERE 0.908 * price > 1000000 AND 0.908 * price < 50000000;
