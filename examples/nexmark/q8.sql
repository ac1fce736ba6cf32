-- Monitor new users: who has registered and put something up for auction within the same 10 seconds?
CREATE TABLE q8 (id BIGINT, name TEXT, starttime TIMESTAMP(3)) WITH (connector = '${NEXMARK_SINK:-stdout}');

CREATE VIEW q8_people AS
SELECT tumble(INTERVAL '10 seconds') AS window, id, name FROM person GROUP BY window, id, name;

CREATE VIEW q8_sellers AS
SELECT tumble(INTERVAL '10 seconds') AS window, seller FROM auction GROUP BY window, seller;

INSERT INTO q8
SELECT p.id, p.name, p.window['start']
FROM q8_people AS p JOIN q8_sellers AS s ON p.id = s.seller AND p.window = s.window;
