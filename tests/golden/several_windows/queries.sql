-- One read of the table, three queries.
INSERT INTO short SELECT tumble(INTERVAL '10 seconds') AS window, count(*) AS n FROM events GROUP BY window;
INSERT INTO long SELECT tumble(INTERVAL '1 minute') AS window, count(*) AS n FROM events GROUP BY window;
INSERT INTO copies SELECT k, v FROM events WHERE k = 'b';
