-- Requests of the last 30 seconds, every 10 seconds.
CREATE TABLE requests (
    method TEXT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'file', path = 'examples/hop/input/requests.jsonl');

SELECT hop(INTERVAL '10 seconds', INTERVAL '30 seconds') AS window, count(*) AS requests
FROM requests
GROUP BY window;
