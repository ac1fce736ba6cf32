-- Every window; one that is written again replaces itself.
CREATE TABLE window_totals (
    "timestamp" TIMESTAMP, transactions BIGINT, revenue DECIMAL(16, 2), highest DECIMAL(12, 2), lowest DECIMAL(12, 2),
    customers BIGINT,
    PRIMARY KEY ("timestamp")
) WITH (connector = 'postgres', url = '${DWH_URL}', create = 'true');

INSERT INTO window_totals
SELECT window['start'], transactions, revenue, highest, lowest, customers FROM windows;

CREATE TABLE category_totals (
    "timestamp" TIMESTAMP, category TEXT, sales BIGINT, revenue DECIMAL(16, 2), quantity BIGINT, customers BIGINT,
    products BIGINT,
    PRIMARY KEY ("timestamp", category)
) WITH (connector = 'postgres', url = '${DWH_URL}', create = 'true');

INSERT INTO category_totals
SELECT window['start'], category, sales, revenue, quantity, customers, products FROM categories;

CREATE TABLE item_totals (
    "timestamp" TIMESTAMP, items BIGINT, quantity BIGINT,
    PRIMARY KEY ("timestamp")
) WITH (connector = 'postgres', url = '${DWH_URL}', create = 'true');

INSERT INTO item_totals SELECT window['start'], items, quantity FROM item_counts;
