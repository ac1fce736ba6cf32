-- Nexmark q8: people who put something up for auction in the ten seconds in which they registered.
CREATE TABLE results (id BIGINT, name TEXT, window_start TIMESTAMP(3))
WITH (connector = 'kafka', bootstrap_servers = '${BROKER}', topic = '${RESULTS}');

INSERT INTO results
SELECT newcomers.id, newcomers.name, newcomers.window['start']
FROM (SELECT tumble(INTERVAL '10 seconds') AS window, id, name FROM person GROUP BY window, id, name) AS newcomers
JOIN (SELECT tumble(INTERVAL '10 seconds') AS window, seller FROM auction GROUP BY window, seller) AS sellers
ON newcomers.window = sellers.window AND newcomers.id = sellers.seller;
