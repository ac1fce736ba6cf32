-- Adverts shown and clicked, side by side.
CREATE TABLE shown (
    advert TEXT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'file', path = 'examples/join/input/shown.jsonl');
CREATE TABLE clicked (
    advert TEXT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'file', path = 'examples/join/input/clicked.jsonl');

CREATE VIEW views AS
SELECT tumble(INTERVAL '30 seconds') AS window, advert, count(*) AS views FROM shown GROUP BY window, advert;

CREATE VIEW clicks AS
SELECT tumble(INTERVAL '30 seconds') AS window, advert, count(*) AS clicks FROM clicked GROUP BY window, advert;

SELECT coalesce(views.window['start'], clicks.window['start']) AS since,
       coalesce(views.advert, clicks.advert) AS advert, views, clicks
FROM views FULL JOIN clicks ON views.window = clicks.window AND views.advert = clicks.advert;
