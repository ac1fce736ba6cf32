CREATE TABLE results (id BIGINT, name STRING, window_start TIMESTAMP(3))
WITH (${SINK});

INSERT INTO results
SELECT newcomers.id, newcomers.name, newcomers.window_start
FROM (
    SELECT window_start, window_end, id, name
    FROM TABLE(TUMBLE(TABLE person, DESCRIPTOR(date_time), INTERVAL '10' SECOND))
    GROUP BY window_start, window_end, id, name
) AS newcomers
JOIN (
    SELECT window_start, window_end, seller
    FROM TABLE(TUMBLE(TABLE auction, DESCRIPTOR(date_time), INTERVAL '10' SECOND))
    GROUP BY window_start, window_end, seller
) AS sellers
ON newcomers.window_start = sellers.window_start AND newcomers.window_end = sellers.window_end
    AND newcomers.id = sellers.seller;
