-- InstaShop's own database for SQLite. A table that is already there is kept as it is. Times are ISO 8601 text in
-- UTC, JSON is text.
CREATE TABLE IF NOT EXISTS customer (
    customer_id       INTEGER PRIMARY KEY AUTOINCREMENT,
    name              VARCHAR(255) NOT NULL,
    business_name     VARCHAR(255),
    email             VARCHAR(255),
    phone             VARCHAR(50),
    subscription_plan VARCHAR(50),
    logo_url          VARCHAR(500),
    store_url         VARCHAR(500)
);

CREATE TABLE IF NOT EXISTS buyer (
    buyer_id         INTEGER PRIMARY KEY AUTOINCREMENT,
    name             VARCHAR(255) NOT NULL,
    email            VARCHAR(255),
    phone            VARCHAR(50),
    shipping_address TEXT
);

CREATE TABLE IF NOT EXISTS product (
    product_id  INTEGER PRIMARY KEY AUTOINCREMENT,
    customer_id INTEGER NOT NULL REFERENCES customer (customer_id),
    name        VARCHAR(255) NOT NULL,
    description TEXT,
    category    VARCHAR(100),
    price       DECIMAL(12, 2) NOT NULL,
    currency    VARCHAR(10),
    status      VARCHAR(50),
    image_url   VARCHAR(500)
);
CREATE INDEX IF NOT EXISTS product_customer_id ON product (customer_id);

CREATE TABLE IF NOT EXISTS "transaction" (
    transaction_id   INTEGER PRIMARY KEY AUTOINCREMENT,
    buyer_id         INTEGER NOT NULL REFERENCES buyer (buyer_id),
    customer_id      INTEGER NOT NULL REFERENCES customer (customer_id),
    transaction_date TEXT NOT NULL,
    total_amount     DECIMAL(12, 2) NOT NULL,
    payment_method   VARCHAR(50),
    status           VARCHAR(50)
);
CREATE INDEX IF NOT EXISTS transaction_transaction_date ON "transaction" (transaction_date);
CREATE INDEX IF NOT EXISTS transaction_customer_id ON "transaction" (customer_id);
CREATE INDEX IF NOT EXISTS transaction_buyer_id ON "transaction" (buyer_id);

CREATE TABLE IF NOT EXISTS transactiondetail (
    transaction_detail_id INTEGER PRIMARY KEY AUTOINCREMENT,
    transaction_id        INTEGER NOT NULL REFERENCES "transaction" (transaction_id),
    product_id            INTEGER NOT NULL REFERENCES product (product_id),
    quantity              INTEGER NOT NULL,
    unit_price            DECIMAL(12, 2) NOT NULL
);
CREATE INDEX IF NOT EXISTS transactiondetail_transaction_id ON transactiondetail (transaction_id);
CREATE INDEX IF NOT EXISTS transactiondetail_product_id ON transactiondetail (product_id);

-- event_type is page_view, product_view, wishlist, review, purchase, search, cart_event or cart_abandonment. metadata
-- holds channel and status; of a search search_query and results_count; of the last two cart_total.
CREATE TABLE IF NOT EXISTS userbehavior (
    behavior_id INTEGER PRIMARY KEY AUTOINCREMENT,
    customer_id INTEGER,
    event_type  VARCHAR(50) NOT NULL,
    product_id  INTEGER,
    session_id  VARCHAR(100),
    timestamp   TEXT NOT NULL,
    metadata    TEXT
);
CREATE INDEX IF NOT EXISTS userbehavior_timestamp ON userbehavior (timestamp);
CREATE INDEX IF NOT EXISTS userbehavior_session_id ON userbehavior (session_id);

-- One row a transaction, with its items as a JSON array.
CREATE VIEW IF NOT EXISTS transaction_events AS
SELECT
    t.transaction_id,
    t.transaction_date,
    t.customer_id,
    c.name AS customer_name,
    c.subscription_plan,
    t.buyer_id,
    b.name AS buyer_name,
    b.email AS buyer_email,
    t.total_amount,
    t.payment_method,
    t.status,
    -- The inner ORDER BY is what older versions of SQLite take; an amount gets its two digits as PostgreSQL gives them.
    (SELECT json_group_array(json(item)) FROM (
        SELECT json_object(
            'product_id', d.product_id,
            'product_name', p.name,
            'category', p.category,
            'quantity', d.quantity,
            'unit_price', json(printf('%.2f', d.unit_price)),
            'product_price', json(CASE WHEN p.price IS NULL THEN 'null' ELSE printf('%.2f', p.price) END)
        ) AS item
        FROM transactiondetail d
        LEFT JOIN product p ON p.product_id = d.product_id
        WHERE d.transaction_id = t.transaction_id
        ORDER BY d.transaction_detail_id
    )) AS items
FROM "transaction" t
LEFT JOIN customer c ON c.customer_id = t.customer_id
LEFT JOIN buyer b ON b.buyer_id = t.buyer_id;

-- One row a step of a visitor.
CREATE VIEW IF NOT EXISTS behavior_events AS
SELECT
    u.behavior_id,
    u.event_type,
    u.timestamp,
    u.customer_id,
    c.name AS customer_name,
    u.product_id,
    u.session_id,
    u.metadata
FROM userbehavior u
LEFT JOIN customer c ON c.customer_id = u.customer_id;
