-- The shop's databases and what becomes of their rows: one event for each in the four topics, read by a cursor, each
-- row once. Without SHOP_URL and CRM_URL two SQLite files take their place, which `acequia generate` fills; 'none' says
-- that there is no such database and that others fill the topics.

-- A transaction with its items, as the view transaction_events of the shop's migrations puts them together.
CREATE TABLE shop_transactions (
    transaction_id BIGINT NOT NULL,
    transaction_date TIMESTAMP NOT NULL,
    customer_id BIGINT,
    customer_name TEXT,
    subscription_plan TEXT,
    buyer_id BIGINT,
    buyer_name TEXT,
    buyer_email TEXT,
    total_amount DECIMAL(12, 2),
    payment_method TEXT,
    status TEXT,
    items STRUCT<product_id BIGINT, product_name TEXT, category TEXT, quantity INT,
                 unit_price DECIMAL(12, 2), product_price DECIMAL(12, 2)>[]
) WITH (
    connector = 'postgres',
    url = '${SHOP_URL:-embedded://shop}',
    migrate = 'shop',
    table = 'transaction_events',
    cursor = 'transaction_id',
    cursor_table = 'transaction',
    bad_rows = 'dead_letters'
);

-- Views, searches and carts; metadata holds what only some of them have.
CREATE TABLE shop_behavior (
    behavior_id BIGINT NOT NULL,
    event_type TEXT NOT NULL,
    "timestamp" TIMESTAMP NOT NULL,
    customer_id BIGINT,
    customer_name TEXT,
    product_id BIGINT,
    session_id TEXT,
    metadata STRUCT<channel TEXT, status TEXT, search_query TEXT, results_count BIGINT, cart_total DECIMAL(12, 2)>
) WITH (
    connector = 'postgres',
    url = '${SHOP_URL:-embedded://shop}',
    migrate = 'shop',
    table = 'behavior_events',
    cursor = 'behavior_id',
    cursor_table = 'userbehavior',
    bad_rows = 'dead_letters'
);

CREATE TABLE crm_interactions (
    interaction_id BIGINT NOT NULL,
    customer_id BIGINT,
    interaction_type TEXT,
    channel TEXT,
    interaction_date TIMESTAMP NOT NULL,
    status TEXT
) WITH (
    connector = 'postgres',
    url = '${CRM_URL:-embedded://crm}',
    migrate = 'crm',
    table = 'interaction',
    cursor = 'interaction_id',
    bad_rows = 'dead_letters'
);

INSERT INTO transactions
SELECT 'transaction', transaction_date, transaction_id, customer_id, customer_name, subscription_plan, buyer_id,
       buyer_name, buyer_email, total_amount, payment_method, status, items, 'instashop'
FROM shop_transactions;

-- Whatever is no search and no cart is behaviour: a kind that the shop invents tomorrow is not lost.
INSERT INTO user_behavior
SELECT 'user_behavior', "timestamp", customer_id, customer_name, event_type, metadata['channel'], metadata['status'],
       session_id, product_id, 'instashop'
FROM shop_behavior
WHERE event_type NOT IN ('search', 'cart_event', 'cart_abandonment');

-- The CRM knows customers by their number alone.
INSERT INTO user_behavior (event_type, "timestamp", customer_id, interaction_type, channel, status, source)
SELECT 'user_behavior', interaction_date, customer_id, interaction_type, channel, status, 'crm'
FROM crm_interactions;

INSERT INTO searches
SELECT 'search', "timestamp", customer_id, customer_name, session_id, metadata['search_query'],
       metadata['results_count']
FROM shop_behavior
WHERE event_type = 'search';

INSERT INTO cart_events
SELECT event_type, "timestamp", customer_id, customer_name, session_id, metadata['cart_total']
FROM shop_behavior
WHERE event_type IN ('cart_event', 'cart_abandonment');
