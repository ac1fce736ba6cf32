-- Used before it is declared, in another file.
SELECT k, total FROM large;
