//! What a run used, and tables of it.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::Result;
use super::runs::Run;

/// What one run did and what it took.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sample {
    /// Events read.
    pub events: u64,
    /// Rows of results.
    pub results: u64,
    /// Seconds from the first event on.
    pub wall: f64,
    /// Seconds of all cores, user and system.
    pub cpu: f64,
    /// The most resident memory, in MB.
    pub peak: f64,
    /// The most resident memory in the second and in the last quarter of the run, in MB.
    pub quarters: [f64; 2],
}

/// What this process has used so far.
pub struct Resources {
    /// Seconds of all cores, user and system.
    pub cpu: f64,
}

impl Resources {
    /// The kernel counts in steps of 10 ms.
    pub fn now() -> Result<Resources> {
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        let fields: Vec<&str> = stat.rsplit_once(')').context("/proc/self/stat")?.1.split_whitespace().collect();
        Ok(Resources { cpu: (fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0 })
    }

    /// The difference.
    pub fn since(&self, before: &Resources) -> Resources {
        Resources { cpu: self.cpu - before.cpu }
    }

    /// Begins to note how much memory is resident.
    pub fn watch_memory() -> Memory {
        let memory = Memory { noted: Arc::default(), over: Arc::default() };
        let (noted, over) = (Arc::clone(&memory.noted), Arc::clone(&memory.over));
        std::thread::spawn(move || {
            let began = Instant::now();
            while !over.load(Ordering::Relaxed) {
                if let Ok(resident) = status("VmRSS:") {
                    noted.lock().push((began.elapsed().as_secs_f64(), resident));
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        memory
    }
}

/// Resident memory from time to time.
pub struct Memory {
    noted: Arc<Mutex<Vec<(f64, f64)>>>,
    over: Arc<AtomicBool>,
}

impl Memory {
    /// A sample with the figures about memory.
    pub fn sample(&self) -> Result<Sample> {
        self.over.store(true, Ordering::Relaxed);
        let noted = self.noted.lock();
        let end = noted.last().map_or(0.0, |(at, _)| *at);
        let most = |from: f64, to: f64| {
            let within = noted.iter().filter(|(at, _)| (from * end..=to * end).contains(at));
            within.map(|(_, resident)| *resident).fold(0.0, f64::max)
        };
        Ok(Sample { peak: status("VmHWM:")?, quarters: [most(0.25, 0.5), most(0.75, 1.0)], ..Sample::default() })
    }
}

/// A line of `/proc/self/status`, in MB.
fn status(name: &str) -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}

/// Whether `python3 -c 'import duckdb'` works.
pub fn has_duckdb() -> bool {
    Command::new("python3").args(["-c", "import duckdb"]).output().is_ok_and(|output| output.status.success())
}

/// The machine, in one line.
pub fn machine() -> String {
    let text = |command: &str| {
        let output = Command::new("sh").args(["-c", command]).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
    };
    format!(
        "{} ({} cores), Linux {}, {}; load {}; acequia at {}\n",
        text("sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1"),
        text("nproc"),
        text("uname -r"),
        text("rustc --version"),
        text("cut -d' ' -f1-3 /proc/loadavg"),
        text("git describe --always --dirty"),
    )
}

/// Does all runs in turn, as often as asked, and prints a table of their medians.
pub fn table(title: &str, runs: &[(&str, Run)], repeats: usize) -> Result<()> {
    let mut samples: Vec<Vec<Sample>> = vec![vec![]; runs.len()];
    for repeat in 0..repeats {
        for ((name, run), samples) in runs.iter().zip(&mut samples) {
            let sample = one(run).with_context(|| format!("{title}, {name}"))?;
            eprintln!(
                "{repeat} {name}: {:.2} s, {:.3} µs of CPU an event, {:.0} MB, {} results",
                sample.wall,
                sample.cpu / sample.events as f64 * 1e6,
                sample.peak,
                sample.results
            );
            samples.push(sample);
        }
    }
    println!("### {title}\n");
    println!("| | events/s | µs of CPU an event | peak memory | results |");
    println!("|---|--:|--:|--:|--:|");
    for ((name, _), samples) in runs.iter().zip(&samples) {
        let rate = Spread::of(samples.iter().map(|sample| sample.events as f64 / sample.wall));
        let cpu = Spread::of(samples.iter().map(|sample| sample.cpu / sample.events as f64 * 1e6));
        let peak = Spread::of(samples.iter().map(|sample| sample.peak));
        println!(
            "| {name} | {:.0} k ({:.0}–{:.0}) | {:.3} ({:.3}–{:.3}) | {:.0} MB | {} |",
            rate.median / 1e3,
            rate.lowest / 1e3,
            rate.highest / 1e3,
            cpu.median,
            cpu.lowest,
            cpu.highest,
            peak.median,
            samples[0].results
        );
    }
    println!("\nMedian of {repeats} (lowest–highest), {} events; load afterwards {}.", samples[0][0].events, load());
    if repeats == 1 {
        for ((name, _), samples) in runs.iter().zip(&samples) {
            let [early, late] = samples[0].quarters;
            println!("{name}: at most {early:.0} MB in the second quarter of the run, {late:.0} MB in the last.");
        }
    }
    println!();
    Ok(())
}

fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or_default().to_owned()
}

fn one(run: &Run) -> Result<Sample> {
    let output = Command::new(std::env::current_exe()?).arg("--run").arg(run.text()?).output()?;
    let (printed, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{said}");
    serde_json::from_str(printed.trim()).with_context(|| format!("no sample: {printed}{said}"))
}

struct Spread {
    lowest: f64,
    median: f64,
    highest: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let at = |place: usize| values.get(place).copied().unwrap_or(f64::NAN);
        Spread { lowest: at(0), median: at(values.len() / 2), highest: at(values.len().saturating_sub(1)) }
    }
}
