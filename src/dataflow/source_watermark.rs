//! The watermark of a source: the lowest of all splits of all its instances.
//!
//! The instances of a source share one [`SourceWatermark`], so that each of them forwards the same watermark whichever
//! splits it reads, even if it reads none. Three things go by the wall clock, which is always passed in:
//! - A split counts as idle when its source has said that it is read to its end and nothing has come since for the
//!   idle timeout. The time that an instance spends working or waiting for room downstream does not count as silence.
//! - When all splits are idle, the watermark goes on at the pace of the clock, so that the last window closes.
//! - It then also goes along with the sources whose rows meet this one's (its [`Company`]), so that it holds them back
//!   no more, though it may never have had a row.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::company::{Company, Standing};
use super::watch;
use crate::formats::SplitIndex;
use crate::time::EventTime;

/// How often the watermark of a silent source moves on.
const SILENT_STEP: Duration = Duration::from_millis(200);

/// Shared by the instances of one source.
pub struct SourceWatermark {
    state: Mutex<State>,
    changed: watch::Sender<EventTime>,
    company: Company,
}

struct State {
    idle_timeout: Duration,
    instances: Vec<Instance>,
    /// The highest watermark that any instance has been given. It never falls.
    watermark: EventTime,
}

struct Instance {
    /// When it was opened.
    began: Option<Instant>,
    /// Whether all splits that it starts with are known.
    announced: bool,
    /// Set while it works on what its source gave it, and so cannot hear more.
    busy_since: Option<Instant>,
    ended_at: Option<Instant>,
    splits: Vec<Split>,
}

#[derive(Clone)]
struct Split {
    watermark: EventTime,
    caught_up: bool,
    quiet_since: Instant,
    ended: bool,
}

impl SourceWatermark {
    /// For `instances` instances, going on from `watermark`.
    pub fn new(instances: usize, idle_timeout: Duration, watermark: EventTime, company: Company) -> SourceWatermark {
        let instance = || Instance { began: None, announced: false, busy_since: None, ended_at: None, splits: vec![] };
        SourceWatermark {
            state: Mutex::new(State {
                idle_timeout,
                instances: (0..instances).map(|_| instance()).collect(),
                watermark,
            }),
            changed: watch::Sender::new(watermark),
            company,
        }
    }

    /// Tells when any instance has moved the watermark.
    pub fn subscribe(&self) -> watch::Receiver<EventTime> {
        self.changed.subscribe()
    }

    /// The instance is open; the wait for its first splits begins.
    pub fn opened(&self, instance: usize, now: Instant) {
        self.state.lock().instances[instance].began = Some(now);
    }

    /// A split begins, with the watermark that it had when the run was interrupted, if any. One that is found when the
    /// source is under way begins at the source's watermark. Returns its watermark.
    pub fn split(&self, instance: usize, split: SplitIndex, restored: EventTime, now: Instant) -> EventTime {
        let mut state = self.state.lock();
        let watermark = if state.announced(now) { restored.max(state.watermark) } else { restored };
        let splits = &mut state.instances[instance].splits;
        let begun = Split { watermark, caught_up: false, quiet_since: now, ended: false };
        let index = split.0 as usize;
        // Splits are dense; a gap would be a split that nobody announced, and so one that has ended.
        splits.resize_with(splits.len().max(index + 1), || Split { ended: true, ..begun.clone() });
        splits[index] = begun;
        watermark
    }

    /// Rows of a split have come; the instance is busy from now on. Returns the split's watermark: one that was idle
    /// goes on from the source's, because windows up to there may be closed.
    pub fn wake(&self, instance: usize, split: SplitIndex, now: Instant) -> EventTime {
        let mut state = self.state.lock();
        let (timeout, watermark) = (state.idle_timeout, state.watermark);
        let instance = &mut state.instances[instance];
        let heard = instance.heard_until(now);
        instance.announced = true;
        instance.busy_since.get_or_insert(now);
        let Some(split) = instance.splits.get_mut(split.0 as usize) else { return watermark };
        if split.is_idle(timeout, heard) {
            split.watermark = split.watermark.max(watermark);
        }
        split.caught_up = false;
        split.quiet_since = now;
        split.watermark
    }

    /// The rows up to a split's new watermark have been sent on.
    pub fn advance(&self, instance: usize, split: SplitIndex, watermark: EventTime) {
        if let Some(split) = self.state.lock().instances[instance].splits.get_mut(split.0 as usize) {
            split.watermark = split.watermark.max(watermark);
        }
    }

    /// The split is read to its end.
    pub fn caught_up(&self, instance: usize, split: SplitIndex, now: Instant) {
        let mut state = self.state.lock();
        state.instances[instance].announced = true;
        if let Some(split) = state.instances[instance].splits.get_mut(split.0 as usize)
            && !split.caught_up
        {
            split.caught_up = true;
            split.quiet_since = now;
        }
    }

    /// The split will never send again.
    pub fn split_ended(&self, instance: usize, split: SplitIndex) {
        let mut state = self.state.lock();
        state.instances[instance].announced = true;
        if let Some(split) = state.instances[instance].splits.get_mut(split.0 as usize) {
            split.ended = true;
        }
    }

    /// The instance will never send again. `now` serves to tell the others.
    pub fn ended(&self, instance: usize, now: Instant) {
        let mut state = self.state.lock();
        let instance = &mut state.instances[instance];
        instance.announced = true;
        instance.busy_since = None;
        instance.ended_at = Some(now);
        instance.splits.iter_mut().for_each(|split| split.ended = true);
        self.refresh(&mut state, now);
    }

    /// The watermark now, after all that the instance was given has been sent on and it listens again; and when time
    /// alone may change it.
    pub fn listen(&self, instance: usize, now: Instant) -> (EventTime, Option<Instant>) {
        let mut state = self.state.lock();
        let instance = &mut state.instances[instance];
        if let Some(since) = instance.busy_since.take() {
            let busy = now.duration_since(since);
            instance.splits.iter_mut().for_each(|split| split.quiet_since = (split.quiet_since + busy).min(now));
        }
        let next = self.refresh(&mut state, now);
        (state.watermark, next)
    }

    fn refresh(&self, state: &mut State, now: Instant) -> Option<Instant> {
        let (standing, mut next) = state.evaluate(now);
        let mut watermark = standing.at(now);
        if matches!(standing, Standing::Silent { .. }) {
            watermark = watermark.max(self.company.watermark(now));
            if watermark > EventTime::MIN || !self.company.is_alone() {
                next = Some(now + SILENT_STEP);
            }
        }
        if watermark > state.watermark {
            state.watermark = watermark;
            self.changed.set(watermark);
        }
        self.company.tell(match standing {
            Standing::Reads(_) => Standing::Reads(state.watermark),
            silent => silent,
        });
        next
    }
}

impl State {
    /// Whether every instance has said which splits it starts with. One that has none may have nothing to say.
    fn announced(&self, now: Instant) -> bool {
        self.instances.iter().all(|instance| instance.has_announced(self.idle_timeout, now))
    }

    /// How far the source has come by itself, and when time alone may end a wait.
    fn evaluate(&self, now: Instant) -> (Standing, Option<Instant>) {
        let waits = Standing::Reads(EventTime::MIN);
        if !self.announced(now) {
            let silent = self.instances.iter().filter(|instance| !instance.announced && instance.splits.is_empty());
            let until = silent.filter_map(|instance| Some(instance.began? + self.idle_timeout));
            return (waits, until.filter(|at| *at > now).min());
        }
        let mut lowest: Option<EventTime> = None;
        let mut highest = EventTime::MIN;
        let mut silent_since: Option<Instant> = None;
        let mut next: Option<Instant> = None;
        for instance in &self.instances {
            let heard = instance.heard_until(now);
            for split in &instance.splits {
                highest = highest.max(split.watermark);
                if split.ended {
                    continue;
                }
                silent_since = silent_since.max(Some(split.quiet_since));
                if split.is_idle(self.idle_timeout, heard) {
                    continue;
                }
                lowest = Some(lowest.map_or(split.watermark, |lowest| lowest.min(split.watermark)));
                if split.caught_up && instance.busy_since.is_none() {
                    let idle_at = split.quiet_since + self.idle_timeout;
                    next = Some(next.map_or(idle_at, |next| next.min(idle_at)));
                }
            }
        }
        if let Some(lowest) = lowest {
            return (Standing::Reads(lowest), next);
        }
        match silent_since.or_else(|| self.quiet_since()) {
            Some(since) => (Standing::Silent { watermark: highest, since: since + self.idle_timeout }, None),
            // No split is left, and more may come.
            None => (waits, None),
        }
    }

    /// Since when a source without any split has nothing to say: it has ended, or there never was one.
    fn quiet_since(&self) -> Option<Instant> {
        let quiet = |instance: &Instance| match instance.ended_at {
            Some(ended) => Some(ended),
            None if instance.splits.is_empty() => instance.began,
            None => None,
        };
        self.instances.iter().map(quiet).try_fold(None, |latest, quiet| Some(latest.max(Some(quiet?))))?
    }
}

impl Instance {
    fn has_announced(&self, idle_timeout: Duration, now: Instant) -> bool {
        let silent = |began: Instant| now.saturating_duration_since(began) >= idle_timeout;
        self.announced || (self.splits.is_empty() && self.began.is_some_and(silent))
    }

    /// Until when its silence says anything.
    fn heard_until(&self, now: Instant) -> Instant {
        self.busy_since.unwrap_or(now)
    }
}

impl Split {
    fn is_idle(&self, timeout: Duration, heard_until: Instant) -> bool {
        self.caught_up && heard_until.duration_since(self.quiet_since) >= timeout
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::FutureExt;

    use super::*;
    use crate::dataflow::graph::Distribution;
    use crate::dataflow::tests::parts::{Builder, MemorySource, edge};

    const TIMEOUT: Duration = Duration::from_secs(10);
    const ONE: SplitIndex = SplitIndex(0);
    const TWO: SplitIndex = SplitIndex(1);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn source(instances: usize) -> (SourceWatermark, Instant) {
        let now = Instant::now();
        let source = SourceWatermark::new(instances, TIMEOUT, EventTime::MIN, Company::alone());
        (0..instances).for_each(|instance| source.opened(instance, now));
        (source, now)
    }

    /// Rows move a split's watermark; the instance listens again at once.
    fn rows(source: &SourceWatermark, instance: usize, split: SplitIndex, to: i64, now: Instant) -> EventTime {
        source.wake(instance, split, now);
        source.advance(instance, split, EventTime(to));
        source.listen(instance, now).0
    }

    fn split(source: &SourceWatermark, instance: usize, split: SplitIndex, now: Instant) {
        source.split(instance, split, EventTime::MIN, now);
    }

    #[test]
    fn it_is_the_lowest_of_all_splits_once_each_has_one() {
        let (source, now) = source(1);
        split(&source, 0, ONE, now);
        split(&source, 0, TWO, now);
        assert_eq!(rows(&source, 0, ONE, 50, now), EventTime::MIN);
        assert_eq!(rows(&source, 0, TWO, 30, now), EventTime(30));
        assert_eq!(rows(&source, 0, TWO, 70, now), EventTime(50));
    }

    #[test]
    fn no_instance_goes_ahead_before_all_have_announced_their_splits() {
        let (source, now) = source(2);
        split(&source, 0, ONE, now);
        assert_eq!(rows(&source, 0, ONE, 50, now), EventTime::MIN);
        split(&source, 1, ONE, now);
        assert_eq!(rows(&source, 1, ONE, 20, now), EventTime(20));
    }

    #[test]
    fn an_instance_without_a_split_holds_nobody_back_for_long() {
        let (source, now) = source(2);
        split(&source, 0, ONE, now);
        source.opened(1, now + seconds(3));
        assert_eq!(rows(&source, 0, ONE, 50, now + seconds(12)), EventTime::MIN);
        assert_eq!(source.listen(1, now + seconds(12)).1, Some(now + seconds(13)));
        assert_eq!(source.listen(1, now + seconds(13)).0, EventTime(50));
    }

    #[test]
    fn an_ended_instance_does_not_count_and_the_others_hear_of_it() {
        let (source, now) = source(2);
        split(&source, 0, ONE, now);
        split(&source, 1, ONE, now);
        assert_eq!(rows(&source, 0, ONE, 50, now), EventTime::MIN);
        let mut changed = source.subscribe();
        assert!(changed.changed().now_or_never().is_none());
        source.ended(1, now);
        assert!(changed.changed().now_or_never().is_some());
        assert_eq!(changed.get(), EventTime(50));
    }

    #[test]
    fn a_split_is_idle_only_when_read_to_its_end_and_silent() {
        let (source, now) = source(1);
        split(&source, 0, ONE, now);
        split(&source, 0, TWO, now);
        // Silent but not read to its end: it may hold old rows.
        assert_eq!(rows(&source, 0, ONE, 50, now + seconds(100)), EventTime::MIN);
        source.caught_up(0, TWO, now + seconds(100));
        assert_eq!(rows(&source, 0, ONE, 60, now + seconds(109)), EventTime::MIN);
        assert_eq!(source.listen(0, now + seconds(109)).1, Some(now + seconds(110)));
        assert_eq!(rows(&source, 0, ONE, 60, now + seconds(110)), EventTime(60));
    }

    #[test]
    fn a_split_that_wakes_counts_again_but_the_watermark_does_not_fall() {
        let (source, now) = source(1);
        split(&source, 0, ONE, now);
        split(&source, 0, TWO, now);
        rows(&source, 0, TWO, 10, now);
        source.caught_up(0, TWO, now);
        assert_eq!(rows(&source, 0, ONE, 60, now + seconds(10)), EventTime(60));
        assert_eq!(source.wake(0, TWO, now + seconds(11)), EventTime(60));
        source.advance(0, TWO, EventTime(15));
        assert_eq!(source.listen(0, now + seconds(11)).0, EventTime(60));
        assert_eq!(rows(&source, 0, ONE, 90, now + seconds(12)), EventTime(60));
        assert_eq!(rows(&source, 0, TWO, 70, now + seconds(12)), EventTime(70));
    }

    #[test]
    fn a_split_that_never_was_idle_keeps_its_own_watermark() {
        let (source, now) = source(1);
        split(&source, 0, ONE, now);
        split(&source, 0, TWO, now);
        rows(&source, 0, TWO, 10, now);
        source.caught_up(0, TWO, now);
        assert_eq!(rows(&source, 0, ONE, 60, now + seconds(9)), EventTime(10));
        assert_eq!(source.wake(0, TWO, now + seconds(9)), EventTime(10));
    }

    #[test]
    fn a_silent_source_goes_on_at_the_pace_of_the_clock() {
        let (source, now) = source(1);
        split(&source, 0, ONE, now);
        split(&source, 0, TWO, now);
        rows(&source, 0, ONE, 1000, now);
        rows(&source, 0, TWO, 50, now + seconds(1));
        source.caught_up(0, ONE, now + seconds(1));
        source.caught_up(0, TWO, now + seconds(2));
        assert_eq!(source.listen(0, now + seconds(5)).0, EventTime(50));
        assert_eq!(source.listen(0, now + seconds(11)).0, EventTime(50));
        let (watermark, next) = source.listen(0, now + seconds(12));
        assert_eq!((watermark, next), (EventTime(1000), Some(now + seconds(12) + SILENT_STEP)));
        assert_eq!(source.listen(0, now + seconds(15)).0, EventTime(1000 + 3_000_000_000));
    }

    #[test]
    fn a_source_that_never_had_a_row_stays_before_all_time() {
        let (source, now) = source(1);
        split(&source, 0, ONE, now);
        source.caught_up(0, ONE, now);
        assert_eq!(source.listen(0, now + seconds(100)), (EventTime::MIN, None));
    }

    #[test]
    fn time_spent_waiting_downstream_is_no_silence() {
        let (source, now) = source(2);
        split(&source, 0, ONE, now);
        split(&source, 0, TWO, now);
        split(&source, 1, ONE, now);
        source.caught_up(0, TWO, now);
        source.wake(0, ONE, now + seconds(1));
        source.advance(0, ONE, EventTime(90));
        // Instance 0 is stuck for a minute; instance 1 goes on.
        assert_eq!(rows(&source, 1, ONE, 80, now + seconds(60)), EventTime::MIN);
        assert_eq!(source.listen(0, now + seconds(61)).0, EventTime::MIN);
        assert_eq!(source.listen(0, now + seconds(69)).0, EventTime::MIN);
        assert_eq!(source.listen(0, now + seconds(70)).0, EventTime(80));
    }

    #[test]
    fn a_split_found_later_begins_at_the_watermark_of_the_source() {
        let (source, now) = source(1);
        split(&source, 0, ONE, now);
        assert_eq!(rows(&source, 0, ONE, 40, now), EventTime(40));
        assert_eq!(source.split(0, TWO, EventTime::MIN, now), EventTime(40));
        assert_eq!(rows(&source, 0, ONE, 60, now), EventTime(40));
    }

    #[test]
    fn a_restored_split_goes_on_from_its_own_watermark() {
        let now = Instant::now();
        let source = SourceWatermark::new(1, TIMEOUT, EventTime(30), Company::alone());
        assert_eq!(source.split(0, ONE, EventTime(45), now), EventTime(45));
        assert_eq!(source.split(0, TWO, EventTime(30), now), EventTime(30));
        source.caught_up(0, ONE, now);
        assert_eq!(source.listen(0, now).0, EventTime(30));
    }

    /// Two sources whose rows meet.
    fn two() -> ([SourceWatermark; 2], Instant) {
        let mut builder = Builder::default();
        let nodes = ["one", "other"].map(|name| builder.source(name, &Arc::new(MemorySource::new(vec![]))));
        let edges = nodes.map(|node| edge(node, Distribution::Hash(vec![0])));
        builder.window_sum("both", edges.to_vec(), None);
        let mut companies = Company::of(&builder.graph);
        let now = Instant::now();
        let sources = nodes.map(|node| {
            let source = SourceWatermark::new(1, TIMEOUT, EventTime::MIN, companies.remove(&node).unwrap());
            source.opened(0, now);
            source
        });
        (sources, now)
    }

    #[test]
    fn a_source_that_never_had_a_row_goes_along_with_the_one_that_it_meets() {
        let ([one, other], now) = two();
        split(&one, 0, ONE, now);
        split(&other, 0, ONE, now);
        rows(&one, 0, ONE, 70, now);
        // It may hold rows until it is read to its end, and they may come until it has been silent.
        assert_eq!(other.listen(0, now + seconds(100)).0, EventTime::MIN);
        other.caught_up(0, ONE, now + seconds(100));
        assert_eq!(other.listen(0, now + seconds(109)), (EventTime::MIN, Some(now + seconds(110))));
        let at = now + seconds(110);
        assert_eq!(other.listen(0, at), (EventTime(70), Some(at + SILENT_STEP)));
        rows(&one, 0, ONE, 90, at);
        assert_eq!(other.listen(0, at).0, EventTime(90));
        // What comes now is judged by that, as after the silence of a split, and it has a watermark of its own.
        assert_eq!(other.wake(0, ONE, at), EventTime(90));
        other.advance(0, ONE, EventTime(95));
        rows(&one, 0, ONE, 500, at);
        assert_eq!(other.listen(0, at).0, EventTime(95));
    }

    #[test]
    fn a_source_whose_last_row_was_long_ago_holds_none_back_either() {
        let ([one, other], now) = two();
        split(&one, 0, ONE, now);
        split(&other, 0, ONE, now);
        rows(&other, 0, ONE, 10, now);
        other.caught_up(0, ONE, now);
        rows(&one, 0, ONE, 5_000_000_000_000, now + seconds(1));
        assert_eq!(other.listen(0, now + seconds(9)).0, EventTime(10));
        assert_eq!(other.listen(0, now + seconds(11)).0, EventTime(5_000_000_000_000));
        // The one that is not silent goes by its own rows.
        assert_eq!(rows(&one, 0, ONE, 5_000_000_000_001, now + seconds(11)), EventTime(5_000_000_000_001));
    }

    #[test]
    fn when_all_are_silent_they_go_along_with_the_one_that_is_ahead() {
        let ([one, other], now) = two();
        split(&one, 0, ONE, now);
        split(&other, 0, ONE, now);
        rows(&one, 0, ONE, 70, now);
        one.caught_up(0, ONE, now);
        other.caught_up(0, ONE, now);
        assert_eq!(one.listen(0, now + seconds(12)).0, EventTime(70 + 2_000_000_000));
        assert_eq!(other.listen(0, now + seconds(12)).0, EventTime(70 + 2_000_000_000));
        assert_eq!(other.listen(0, now + seconds(13)).0, EventTime(70 + 3_000_000_000));
    }

    #[test]
    fn a_source_beside_one_that_has_ended_goes_on_from_its_end() {
        let ([one, other], now) = two();
        split(&one, 0, ONE, now);
        split(&other, 0, ONE, now);
        rows(&one, 0, ONE, 70, now);
        other.caught_up(0, ONE, now);
        one.ended(0, now + seconds(5));
        assert_eq!(other.listen(0, now + seconds(10)).0, EventTime(70));
        assert_eq!(other.listen(0, now + seconds(16)).0, EventTime(70 + 1_000_000_000));
    }

    #[test]
    fn one_whose_server_is_away_is_waited_for_and_one_without_splits_is_not() {
        let mut builder = Builder::default();
        let nodes = ["one", "other"].map(|name| builder.source(name, &Arc::new(MemorySource::new(vec![]))));
        builder.window_sum("both", nodes.map(|node| edge(node, Distribution::Hash(vec![0]))).to_vec(), None);
        let mut companies = Company::of(&builder.graph);
        let [one, other] =
            nodes.map(|node| SourceWatermark::new(1, TIMEOUT, EventTime::MIN, companies.remove(&node).unwrap()));
        let now = Instant::now();
        one.opened(0, now);
        split(&one, 0, ONE, now);
        rows(&one, 0, ONE, 70, now);
        one.caught_up(0, ONE, now);
        assert_eq!(one.listen(0, now + seconds(100)).0, EventTime(70 + 90_000_000_000));
        assert_eq!(other.listen(0, now + seconds(100)).0, EventTime::MIN);
        other.opened(0, now + seconds(100));
        assert_eq!(other.listen(0, now + seconds(109)), (EventTime::MIN, Some(now + seconds(110))));
        assert_eq!(other.listen(0, now + seconds(110)).0, EventTime(70 + 100_000_000_000));
    }
}
