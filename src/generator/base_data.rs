//! The base data of a shop in a database: what is there is read, what is missing is made from the seed first.
//!
//! The SQL is the same for PostgreSQL and SQLite. The caller holds a transaction in which nobody else makes base data.

use std::collections::HashMap;

use crate::shop::{Buyer, CATEGORIES, Catalogue, Customer, Product};

/// A connection within a transaction.
pub(super) trait Tables {
    /// All rows of a query whose columns are text without nulls.
    async fn read(&mut self, query: &'static str) -> Result<Vec<Vec<String>>, sqlx::Error>;

    /// Runs a statement that gives no rows.
    async fn run(&mut self, statement: &str) -> Result<(), sqlx::Error>;
}

/// Most rows of a table that take part: a generator needs no more, and a shop may have millions.
macro_rules! most {
    () => {
        "LIMIT 10000"
    };
}

/// In the order of ids: a column alone would be that of the result, which is text.
const CUSTOMERS: &str = concat!(
    "SELECT CAST(customer_id AS TEXT), name, coalesce(business_name, ''), coalesce(email, ''), \
     coalesce(subscription_plan, '') FROM customer ORDER BY customer.customer_id ",
    most!()
);
const BUYERS: &str = concat!(
    "SELECT CAST(buyer_id AS TEXT), name, coalesce(email, ''), coalesce(shipping_address, '') FROM buyer \
     ORDER BY buyer.buyer_id ",
    most!()
);
/// Whatever would cost too much for a transaction's total is not sold.
const PRODUCTS: &str = concat!(
    "SELECT CAST(product_id AS TEXT), CAST(customer_id AS TEXT), name, coalesce(category, ''), \
     CAST(CAST(round(price * 100) AS BIGINT) AS TEXT) FROM product WHERE price > 0 AND price < 10000000 \
     AND customer_id IN (SELECT customer_id FROM customer ORDER BY customer_id ",
    most!(),
    ") ORDER BY product.product_id ",
    most!()
);

/// The segments of the CRM: a name, what it says of its customers, and their plan.
const SEGMENTS: [(&str, &str, &str); 4] = [
    ("Newcomers", "on the free plan", "free"),
    ("Growing", "on the basic plan", "basic"),
    ("Established", "on the premium plan", "premium"),
    ("Key accounts", "on the enterprise plan", "enterprise"),
];

/// Reads the shop's base data, and makes customers, buyers and products of `seed` first where a table is empty.
///
/// # Errors
/// What the database says.
pub(super) async fn of_shop(tables: &mut impl Tables, seed: u64) -> Result<Catalogue, sqlx::Error> {
    let of_seed = Catalogue::new(seed);
    let mut customers = tables.read(CUSTOMERS).await?;
    if customers.is_empty() {
        tables.run(&insert_customers(&of_seed.customers)).await?;
        customers = tables.read(CUSTOMERS).await?;
    }
    let mut buyers = tables.read(BUYERS).await?;
    if buyers.is_empty() {
        tables.run(&insert_buyers(&of_seed.buyers)).await?;
        buyers = tables.read(BUYERS).await?;
    }
    let customers: Vec<Customer> = customers.into_iter().filter_map(customer).collect();
    let mut products = tables.read(PRODUCTS).await?;
    if products.is_empty() {
        let owners: Vec<u64> = customers.iter().map(|customer| customer.id).collect();
        tables.run(&insert_products(&of_seed.products, &owners)).await?;
        products = tables.read(PRODUCTS).await?;
    }
    let mut names = CATEGORIES.iter().map(|category| (category.name.to_owned(), category.name)).collect();
    let products = products.into_iter().filter_map(|row| product(row, &mut names)).collect();
    Ok(Catalogue::of(customers, buyers.into_iter().filter_map(buyer).collect(), products))
}

/// Makes the CRM's segments, and puts the customers into them, where these tables are empty.
///
/// # Errors
/// What the database says.
pub(super) async fn of_crm(tables: &mut impl Tables, customers: &[Customer]) -> Result<(), sqlx::Error> {
    const SEGMENT_IDS: &str = "SELECT CAST(segment_id AS TEXT), segment_name FROM segment ORDER BY segment.segment_id";
    let mut segments = tables.read(SEGMENT_IDS).await?;
    if segments.is_empty() {
        let values = SEGMENTS.map(|(name, criteria, _)| format!("({}, {})", literal(name), literal(criteria)));
        tables.run(&format!("INSERT INTO segment (segment_name, criteria) VALUES {}", values.join(", "))).await?;
        segments = tables.read(SEGMENT_IDS).await?;
    }
    if !tables.read("SELECT CAST(customer_id AS TEXT) FROM customersegment LIMIT 1").await?.is_empty() {
        return Ok(());
    }
    let id_of_plan = |plan: &str| {
        let (name, ..) = SEGMENTS.iter().find(|(_, _, of)| *of == plan)?;
        segments.iter().find(|row| row[1] == *name).map(|row| row[0].as_str())
    };
    let members = customers.iter().filter_map(|customer| Some((customer.id, id_of_plan(&customer.plan)?)));
    let values: Vec<String> = members.map(|(customer, segment)| format!("({customer}, {segment})")).collect();
    if values.is_empty() {
        return Ok(());
    }
    tables.run(&format!("INSERT INTO customersegment (customer_id, segment_id) VALUES {}", values.join(", "))).await
}

/// The columns are text that we have asked for; a row that is none is passed over.
fn customer(row: Vec<String>) -> Option<Customer> {
    let [id, name, business_name, email, plan] = row.try_into().ok()?;
    Some(Customer { id: id.parse().ok()?, name, business_name, email, plan, products: vec![] })
}

fn buyer(row: Vec<String>) -> Option<Buyer> {
    let [id, name, email, address] = row.try_into().ok()?;
    Some(Buyer { id: id.parse().ok()?, name, email, address })
}

fn product(row: Vec<String>, names: &mut HashMap<String, &'static str>) -> Option<Product> {
    let [id, customer_id, name, category, price] = row.try_into().ok()?;
    let category = *names.entry(category).or_insert_with_key(|name| name.clone().leak());
    Some(Product {
        id: id.parse().ok()?,
        customer_id: customer_id.parse().ok()?,
        name,
        category,
        price: price.parse().ok()?,
    })
}

fn insert_customers(customers: &[Customer]) -> String {
    let row = |Customer { id, name, business_name, email, plan, .. }: &Customer| {
        let site = business_name.to_lowercase().replace(' ', "-");
        let texts = [
            name,
            business_name,
            email,
            &phone(*id),
            plan,
            &format!("https://img.shops.example/logo/{id}.png"),
            &format!("https://{site}-{id}.shops.example"),
        ];
        format!("({})", texts.map(|text| literal(text)).join(", "))
    };
    let rows: Vec<String> = customers.iter().map(row).collect();
    format!(
        "INSERT INTO customer (name, business_name, email, phone, subscription_plan, logo_url, store_url) VALUES {}",
        rows.join(", ")
    )
}

fn insert_buyers(buyers: &[Buyer]) -> String {
    let row = |Buyer { id, name, email, address }: &Buyer| {
        format!("({})", [name, email, &phone(id + 500), address].map(|text| literal(text)).join(", "))
    };
    let rows: Vec<String> = buyers.iter().map(row).collect();
    format!("INSERT INTO buyer (name, email, phone, shipping_address) VALUES {}", rows.join(", "))
}

/// The products belong to `owners` as those of the seed belong to its customers, over and over.
fn insert_products(products: &[Product], owners: &[u64]) -> String {
    let row = |Product { id, customer_id, name, category, price }: &Product| {
        let owner = owners[(*customer_id as usize - 1) % owners.len()];
        let description = literal(&format!("{name}, from our {category} range"));
        let (cents, image) = (price % 100, literal(&format!("https://img.shops.example/product/{id}.jpg")));
        let (name, category) = (literal(name), literal(category));
        format!("({owner}, {name}, {description}, {category}, {}.{cents:02}, 'EUR', 'active', {image})", price / 100)
    };
    let rows: Vec<String> = products.iter().map(row).collect();
    format!(
        "INSERT INTO product (customer_id, name, description, category, price, currency, status, image_url) VALUES {}",
        rows.join(", ")
    )
}

fn phone(number: u64) -> String {
    format!("+34 600 {:06}", number * 7919 % 1_000_000)
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
