//! Small programs that have, between them, every operator with state. Each is planned once; seeds share the graphs.

use std::path::PathBuf;
use std::sync::OnceLock;

use acequia::connectors::{registry, stdout};
use acequia::dataflow::graph::Graph;
use acequia::planner::{PlanOptions, plan};
use acequia::program::Program;
use acequia::sql::{SourceFiles, Variables};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Tumbles,
    Hops,
    /// With a query beside it that has no state.
    Sessions,
    /// Windows over windows, and the best of each window.
    Ranking,
    Joins,
    Union,
    /// Early results of windows, by key.
    Upserts,
    /// An aggregate over all time, with a query beside it that has no state.
    Totals,
}

impl Kind {
    pub const ALL: [Kind; 8] = [
        Kind::Tumbles,
        Kind::Hops,
        Kind::Sessions,
        Kind::Ranking,
        Kind::Joins,
        Kind::Union,
        Kind::Upserts,
        Kind::Totals,
    ];

    pub fn reads_orders(self) -> bool {
        matches!(self, Kind::Joins | Kind::Union)
    }

    /// What a row is that is a little late depends on more than its window.
    pub fn is_strict(self) -> bool {
        matches!(self, Kind::Sessions | Kind::Union)
    }

    fn texts(self) -> &'static [&'static str] {
        const CLICKS: &str = include_str!("programs/clicks.sql");
        const ORDERS: &str = include_str!("programs/orders.sql");
        match self {
            Kind::Tumbles => &[CLICKS, include_str!("programs/tumbles.sql")],
            Kind::Hops => &[CLICKS, include_str!("programs/hops.sql")],
            Kind::Sessions => &[CLICKS, include_str!("programs/sessions.sql"), include_str!("programs/raw.sql")],
            Kind::Ranking => &[CLICKS, include_str!("programs/ranking.sql")],
            Kind::Joins => &[CLICKS, ORDERS, include_str!("programs/joins.sql")],
            Kind::Union => &[CLICKS, ORDERS, include_str!("programs/union.sql")],
            Kind::Upserts => &[CLICKS, include_str!("programs/upserts.sql")],
            Kind::Totals => &[CLICKS, include_str!("programs/totals.sql"), include_str!("programs/raw.sql")],
        }
    }

    /// The planner's graph of it.
    pub fn graph(self) -> &'static Graph {
        static GRAPHS: [OnceLock<Graph>; 8] = [const { OnceLock::new() }; 8];
        GRAPHS[self as usize].get_or_init(|| {
            // In a thread of its own: a seed's runtime is not to notice.
            std::thread::scope(|scope| scope.spawn(|| planned(self.texts())).join()).expect("the program is planned")
        })
    }
}

fn planned(texts: &[&str]) -> Graph {
    let mut files = SourceFiles::default();
    for (number, text) in texts.iter().enumerate() {
        files.add(PathBuf::from(format!("{number}.sql")), (*text).to_owned());
    }
    let program = Program::parse(files, &Variables::default(), &registry::connectors())
        .unwrap_or_else(|errors| panic!("{}", errors.render(false)));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let options = PlanOptions { bounded: false, print: stdout::factory() };
    runtime.block_on(plan(&program, &options)).unwrap_or_else(|errors| panic!("{}", errors.render(false)))
}
