-- Nexmark q14: a filter and some reckoning. The count of a character is built-in functions in both engines, where Flink's
-- Nexmark has a function of its own in Java.
CREATE TABLE results (
    auction BIGINT, bidder BIGINT, price DECIMAL(23, 3), bid_time_type TEXT, date_time TIMESTAMP(3), extra TEXT, c_counts BIGINT
) WITH (connector = 'kafka', bootstrap_servers = '${BROKER}', topic = '${RESULTS}');

INSERT INTO results
SELECT auction, bidder, CAST(euros AS DECIMAL(23, 3)),
       CASE WHEN date_part('hour', date_time) >= 8 AND date_part('hour', date_time) <= 18 THEN 'dayTime'
            WHEN date_part('hour', date_time) <= 6 OR date_part('hour', date_time) >= 20 THEN 'nightTime'
            ELSE 'otherTime' END,
       date_time, extra, char_length(extra) - char_length(replace(extra, 'c', ''))
FROM (SELECT *, CAST(0.908 AS DECIMAL(4, 3)) * price AS euros FROM bid)
WHERE euros > 1000000 AND euros < 50000000;
