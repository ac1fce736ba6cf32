//! The base data: customers with their plans, buyers, and products with a category and a price that fits it.
//!
//! A seed gives one ([`Catalogue::new`]); a database that has base data already gives another ([`Catalogue::of`]).

use std::collections::HashMap;

use super::Dice;

/// How many customers a seed's base data has; their ids count from 1.
pub const CUSTOMERS: u32 = 50;
/// How many buyers a seed's base data has; their ids count from 1.
pub const BUYERS: u32 = 100;
/// How many products a seed's base data has; their ids count from 1.
pub const PRODUCTS: u32 = 200;

/// What kinds of products a seed's base data has, with what they are called and what they cost.
pub const CATEGORIES: [Category; 8] = [
    category("electronics", ["Headphones", "Keyboard", "Monitor", "Charger", "Speaker"], 1_999, 149_900),
    category("clothing", ["T-Shirt", "Jacket", "Jeans", "Scarf", "Sneakers"], 990, 18_900),
    category("home", ["Lamp", "Cushion", "Frying Pan", "Towel Set", "Shelf"], 790, 34_900),
    category("books", ["Novel", "Cookbook", "Atlas", "Biography", "Comic"], 599, 5_900),
    category("sports", ["Yoga Mat", "Dumbbells", "Football", "Backpack", "Racket"], 1_290, 24_900),
    category("beauty", ["Face Cream", "Shampoo", "Perfume", "Lipstick", "Soap"], 349, 12_900),
    category("toys", ["Puzzle", "Building Blocks", "Doll", "Kite", "Board Game"], 690, 9_900),
    category("food", ["Olive Oil", "Coffee", "Chocolate", "Honey", "Tea"], 249, 4_900),
];

/// A kind of product.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Category {
    /// As it stands in events.
    pub name: &'static str,
    /// What products of this kind are called.
    pub goods: [&'static str; 5],
    /// The lowest price, in cents.
    pub lowest: u64,
    /// The highest price, in cents.
    pub highest: u64,
}

const fn category(name: &'static str, goods: [&'static str; 5], lowest: u64, highest: u64) -> Category {
    Category { name, goods, lowest, highest }
}

/// A shop on a plan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Customer {
    /// From 1.
    pub id: u64,
    /// Whose shop it is.
    pub name: String,
    /// What the shop is called.
    pub business_name: String,
    /// Where to write to.
    pub email: String,
    /// What it pays for: `free`, `basic`, `premium` or `enterprise`.
    pub plan: String,
    /// The indexes of its products in [`Catalogue::products`]; one without any sells nothing.
    pub products: Vec<usize>,
}

/// Someone who buys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Buyer {
    /// From 1.
    pub id: u64,
    /// Their name.
    pub name: String,
    /// Where to write to.
    pub email: String,
    /// Where to send things.
    pub address: String,
}

/// Something to buy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Product {
    /// From 1.
    pub id: u64,
    /// Who sells it.
    pub customer_id: u64,
    /// What it is called.
    pub name: String,
    /// Its kind. Names of kinds are few and live as long as the process, so that totals by kind copy none.
    pub category: &'static str,
    /// What it costs, in cents.
    pub price: u64,
}

impl Product {
    /// What somebody searches for who wants such a thing: its name without the first word, `Lamp` for `Nordic Lamp`.
    pub fn search_term(&self) -> &str {
        self.name.split_once(' ').map_or(&self.name, |(_, term)| term)
    }
}

/// All base data. Entries stand in the order of their ids.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Catalogue {
    /// The customers.
    pub customers: Vec<Customer>,
    /// The buyers.
    pub buyers: Vec<Buyer>,
    /// The products.
    pub products: Vec<Product>,
}

const FIRST_NAMES: [&str; 20] = [
    "Ana", "Bruno", "Clara", "Diego", "Elena", "Felix", "Greta", "Hugo", "Ines", "Jonas", "Karin", "Luis", "Marta",
    "Nils", "Olga", "Paulo", "Rosa", "Samir", "Teresa", "Yusuf",
];
const LAST_NAMES: [&str; 16] = [
    "Almeida", "Becker", "Costa", "Duran", "Eriksen", "Fischer", "García", "Hansen", "Ivanov", "Jansen", "Kovács",
    "Lopes", "Moreau", "Novak", "O'Brien", "Peña",
];
const SHOP_KINDS: [&str; 8] = ["Market", "Store", "Boutique", "Corner", "Depot", "Outlet", "Bazaar", "House"];
const STYLES: [&str; 12] = [
    "Classic", "Modern", "Compact", "Deluxe", "Urban", "Natural", "Nordic", "Vintage", "Sunny", "Royal", "Basic",
    "Alpine",
];
const STREETS: [&str; 6] = ["Mill Street", "Station Road", "Garden Lane", "Harbour Way", "Church Square", "Long Acre"];
const PLANS: [&str; 10] =
    ["free", "free", "free", "basic", "basic", "basic", "basic", "premium", "premium", "enterprise"];
/// Keeps the base data's numbers apart from the events'.
const CATALOGUE_SEED: u64 = 0x0063_6174_616c_6f67;

impl Catalogue {
    /// The base data of `seed`.
    pub fn new(seed: u64) -> Catalogue {
        let mut dice = Dice::new(seed ^ CATALOGUE_SEED);
        let customers = (1..=CUSTOMERS).map(|id| customer(id, &mut dice)).collect();
        let buyers = (1..=BUYERS).map(|id| buyer(id, &mut dice)).collect();
        let products = (1..=PRODUCTS).map(|id| product(id, &mut dice)).collect();
        Catalogue::of(customers, buyers, products)
    }

    /// Base data that is there already, in the order of its ids. Products of customers that are not among them are left
    /// out.
    pub fn of(mut customers: Vec<Customer>, buyers: Vec<Buyer>, mut products: Vec<Product>) -> Catalogue {
        let places: HashMap<u64, usize> =
            customers.iter().enumerate().map(|(place, customer)| (customer.id, place)).collect();
        products.retain(|product| places.contains_key(&product.customer_id));
        customers.iter_mut().for_each(|customer| customer.products.clear());
        for (index, product) in products.iter().enumerate() {
            customers[places[&product.customer_id]].products.push(index);
        }
        Catalogue { customers, buyers, products }
    }

    /// The indexes of the customers that have something to sell.
    pub fn sellers(&self) -> Vec<usize> {
        (0..self.customers.len()).filter(|place| !self.customers[*place].products.is_empty()).collect()
    }
}

fn person(dice: &mut Dice) -> (String, String) {
    let (first, last) = (dice.pick(&FIRST_NAMES), dice.pick(&LAST_NAMES));
    let mailbox: String = last.chars().filter(char::is_ascii_alphabetic).collect();
    (format!("{first} {last}"), format!("{}.{}", first.to_lowercase(), mailbox.to_lowercase()))
}

fn customer(id: u32, dice: &mut Dice) -> Customer {
    let (name, mailbox) = person(dice);
    let business_name = format!("{} {}", dice.pick(&STYLES), dice.pick(&SHOP_KINDS));
    let email = format!("{mailbox}{id}@shops.example");
    let plan = dice.pick(&PLANS).to_owned();
    Customer { id: id.into(), name, business_name, email, plan, products: vec![] }
}

fn buyer(id: u32, dice: &mut Dice) -> Buyer {
    let (name, mailbox) = person(dice);
    let address = format!("{} {}", dice.between(1, 240), dice.pick(&STREETS));
    Buyer { id: id.into(), name, email: format!("{mailbox}{id}@mail.example"), address }
}

/// Every customer gets two products; the others go to some more than to others.
fn product(id: u32, dice: &mut Dice) -> Product {
    let place = if id <= 2 * CUSTOMERS { (id - 1) % CUSTOMERS } else { skewed(CUSTOMERS as usize, dice) as u32 };
    let kind = dice.pick(&CATEGORIES);
    let name = format!("{} {}", dice.pick(&STYLES), dice.pick(&kind.goods));
    // Cheap things are more common than dear ones.
    let price = dice.between(kind.lowest, kind.highest).min(dice.between(kind.lowest, kind.highest));
    Product { id: id.into(), customer_id: u64::from(place) + 1, name, category: kind.name, price }
}

/// A number below `bound`, small ones more often.
pub(super) fn skewed(bound: usize, dice: &mut Dice) -> usize {
    let bound = bound as u64;
    dice.below(bound).min(dice.below(bound)) as usize
}
