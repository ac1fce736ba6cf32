-- The mean temperature of each sensor in each half minute.
CREATE TABLE readings (
    sensor TEXT, celsius DOUBLE, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'file', path = 'examples/tumble/input/readings.jsonl');

SELECT tumble(INTERVAL '30 seconds') AS window, sensor, count(*) AS readings, avg(celsius) AS mean
FROM readings
GROUP BY window, sensor;
