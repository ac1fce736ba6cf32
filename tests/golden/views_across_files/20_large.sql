CREATE VIEW large AS SELECT k, total FROM totals WHERE total >= 10;
