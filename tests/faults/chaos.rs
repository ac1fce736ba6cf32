//! Random kills on real processes, by a schedule that a seed repeats: Acequia, the brokers of a cluster, PostgreSQL and
//! Redis die by SIGKILL, 50 to 2000 ms apart, and Acequia is also stopped and continued.
//!
//! `ACEQUIA_CHAOS_KILLS` and `ACEQUIA_CHAOS_SEED` set how many and which; `scripts/chaos` sets them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::ledger::{Ledger, mixed};
use crate::trial::{PATIENCE, Servers, Trial};
use crate::verdict::{HEADING, Verdict};

const BROKERS: u16 = 3;
/// When no other is given. Its first fifty steps kill everybody.
const SEED: u64 = 2;
/// Kills between two looks at the destinations.
const ROUND: usize = 50;
const PER_SECOND: u64 = 300;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Victim {
    Acequia,
    Broker(u16),
    Postgres,
    Redis,
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Victim::Acequia => write!(f, "acequia"),
            Victim::Broker(_) => write!(f, "broker"),
            Victim::Postgres => write!(f, "postgres"),
            Victim::Redis => write!(f, "redis"),
        }
    }
}

/// One step of the schedule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Step {
    /// Time since the step before.
    after: Duration,
    /// Acequia stands still for so long, before the kill.
    frozen: Option<Duration>,
    victim: Victim,
    /// How long a server stays away.
    away: Duration,
}

/// The schedule of a seed.
fn schedule(seed: u64) -> impl Iterator<Item = Step> {
    let between = |dice: u64, least: u64, most: u64| Duration::from_millis(least + dice % (most - least + 1));
    (0..).map(move |number| {
        let dice = |which: u64| mixed(mixed(seed ^ mixed(number)) ^ which);
        let victim = match dice(0) % 100 {
            0..70 => Victim::Acequia,
            70..76 => Victim::Broker(1 + (dice(1) % u64::from(BROKERS)) as u16),
            76..88 => Victim::Postgres,
            _ => Victim::Redis,
        };
        let frozen = (dice(2) % 10 == 0).then(|| between(dice(3), 50, 3000));
        Step { after: between(dice(4), 50, 2000), frozen, victim, away: between(dice(5), 0, 1500) }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn random_kills_lose_nothing_and_bring_nothing_twice() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let mut left = number("ACEQUIA_CHAOS_KILLS").unwrap_or(ROUND as u64) as usize;
    let mut seed = number("ACEQUIA_CHAOS_SEED").unwrap_or(SEED);
    let servers = Arc::new(Servers::start(BROKERS));
    let (mut rounds, mut void) = (vec![], 0);
    while left > 0 {
        let Some(round) = Round::run(&servers, seed, left.min(ROUND)).await else {
            void += 1;
            assert!(void <= 1 + rounds.len() / 5, "{void} rounds say nothing, since their input is not what was sent");
            seed += 1;
            continue;
        };
        println!("{round}");
        left -= left.min(ROUND);
        seed += 1;
        rounds.push(round);
    }
    println!("\n{ROUND_HEADING}");
    rounds.iter().for_each(|round| println!("{}", round.line()));
    let sum = |of: fn(&Round) -> u64| rounds.iter().map(of).sum::<u64>();
    println!(
        "{} rounds, {} kills, {} records, {} lost, {} twice, {} wrong",
        rounds.len(),
        sum(|round| round.kills.values().sum()),
        sum(|round| round.records),
        sum(|round| round.of(|v| v.lost)),
        sum(|round| round.of(|v| v.twice)),
        sum(|round| round.of(|v| v.wrong)),
    );
    assert!(rounds.iter().all(|round| round.verdicts.iter().all(Verdict::is_clean)), "see the table above");
}

const ROUND_HEADING: &str = "  seed acequia broker postgres redis frozen  records   lost  twice  wrong seconds";

/// Some kills in a row, and what was in the destinations after them.
struct Round {
    seed: u64,
    kills: BTreeMap<Victim, u64>,
    frozen: u64,
    records: u64,
    took: Duration,
    verdicts: Vec<Verdict>,
}

impl Round {
    /// `None` when the topic holds records that the feed has brought twice: then nothing can be said.
    async fn run(servers: &Arc<Servers>, seed: u64, kills: usize) -> Option<Round> {
        let began = Instant::now();
        let trial = Trial::new(servers, Ledger { seed, partitions: 4 }).await;
        let feed = trial.feed(0..u64::MAX, PER_SECOND);
        let mut round =
            Round { seed, kills: BTreeMap::new(), frozen: 0, records: 0, took: Duration::ZERO, verdicts: vec![] };
        let mut recoveries = Recoveries { servers: Arc::clone(servers), under_way: BTreeMap::new() };
        let mut pipeline = trial.start();
        for step in schedule(seed).take(kills) {
            tokio::time::sleep(step.after).await;
            if let Some(frozen) = step.frozen {
                pipeline.signal("-STOP");
                tokio::time::sleep(frozen).await;
                pipeline.signal("-CONT");
                round.frozen += 1;
            }
            assert!(!pipeline.has_ended(), "seed {seed}: it ended by itself:\n{}", pipeline.said());
            *round.kills.entry(step.victim).or_default() += 1;
            match step.victim {
                Victim::Acequia => {
                    pipeline.kill();
                    pipeline = trial.start();
                }
                server => recoveries.kill(server, step.away).await,
            }
        }
        recoveries.all().await;
        round.records = feed.stop().await;
        pipeline.signal("-TERM");
        let code = crate::trial::exit_code(&mut pipeline).await;
        // Started a moment ago, it may not listen yet: then the signal itself has ended it.
        let unheard = code.is_none() && pipeline.said().is_empty();
        assert!(unheard || matches!(code, Some(0 | 4)), "seed {seed}: {code:?}\n{}", pipeline.said());
        let surplus = trial.surplus(round.records);
        if surplus > 0 {
            println!(
                "{seed:>6}: void, the feed's own producer has brought {surplus} of {} records twice",
                round.records
            );
            return None;
        }
        round.verdicts = trial.finish(round.records).await;
        round.took = began.elapsed();
        Some(round)
    }

    fn of(&self, count: fn(&Verdict) -> i64) -> u64 {
        self.verdicts.iter().map(count).sum::<i64>() as u64
    }

    fn line(&self) -> String {
        let killed = |word: &str| -> u64 {
            self.kills.iter().filter(|(victim, _)| victim.to_string() == word).map(|(_, kills)| kills).sum()
        };
        format!(
            "{:>6} {:>7} {:>6} {:>8} {:>5} {:>6} {:>8} {:>6} {:>6} {:>6} {:>7}",
            self.seed,
            killed("acequia"),
            killed("broker"),
            killed("postgres"),
            killed("redis"),
            self.frozen,
            self.records,
            self.of(|v| v.lost),
            self.of(|v| v.twice),
            self.of(|v| v.wrong),
            self.took.as_secs(),
        )
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{ROUND_HEADING}\n{}\n{HEADING}", self.line())?;
        self.verdicts.iter().try_for_each(|verdict| writeln!(f, "{verdict}"))
    }
}

/// Servers that are coming back.
struct Recoveries {
    servers: Arc<Servers>,
    under_way: BTreeMap<Victim, JoinHandle<()>>,
}

impl Recoveries {
    /// Kills a server and lets it come back later. One that is still away comes back first, and so do other brokers:
    /// two of three gone would stop everything.
    async fn kill(&mut self, victim: Victim, away: Duration) {
        let same = |other: &Victim| std::mem::discriminant(other) == std::mem::discriminant(&victim);
        let waits: Vec<Victim> = self.under_way.keys().copied().filter(same).collect();
        for other in waits {
            self.until_back(other).await;
        }
        let servers = Arc::clone(&self.servers);
        let back = tokio::task::spawn_blocking(move || match victim {
            Victim::Acequia => {}
            Victim::Broker(node) => {
                servers.kafka.kill_broker(node);
                std::thread::sleep(away);
                servers.kafka.start_broker(node);
            }
            Victim::Postgres => restart(&servers.postgres, away),
            Victim::Redis => restart(&servers.redis, away),
        });
        self.under_way.insert(victim, back);
    }

    async fn until_back(&mut self, victim: Victim) {
        if let Some(back) = self.under_way.remove(&victim) {
            tokio::time::timeout(PATIENCE, back).await.expect("a server comes back").unwrap();
        }
    }

    async fn all(&mut self) {
        for victim in self.under_way.keys().copied().collect::<Vec<_>>() {
            self.until_back(victim).await;
        }
    }
}

fn restart(server: &crate::server::Server, away: Duration) {
    server.kill();
    std::thread::sleep(away);
    server.start(&[]);
}

#[test]
fn a_seed_repeats_its_schedule() {
    let steps = |seed| schedule(seed).take(1000).collect::<Vec<Step>>();
    assert_eq!(steps(7), steps(7));
    assert_ne!(steps(7), steps(8));
    assert!(steps(7).iter().all(|step| (50..=2000).contains(&(step.after.as_millis() as u64))));
    for victim in [Victim::Acequia, Victim::Broker(1), Victim::Broker(3), Victim::Postgres, Victim::Redis] {
        assert!(steps(7).iter().any(|step| step.victim == victim), "{victim:?}");
        let same = |step: &Step| std::mem::discriminant(&step.victim) == std::mem::discriminant(&victim);
        assert!(schedule(SEED).take(ROUND).any(|step| same(&step)), "{victim:?} is not in the default schedule");
    }
}
