CREATE VIEW totals AS SELECT k, sum(v) AS total FROM events GROUP BY tumble(INTERVAL '1 minute'), k;
