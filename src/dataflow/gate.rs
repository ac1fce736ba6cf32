//! The receiving side of a task: many channels become one sequence of events.
//!
//! The gate keeps the lowest watermark of its senders and aligns barriers: a sender whose barrier has come is not
//! read on until all others have sent theirs, so that what the task has seen at a barrier is exactly the epoch.

use std::future::poll_fn;
use std::task::{Context, Poll};

use arrow::array::RecordBatch;

use super::channel::{Barrier, Message, Receiver};
use crate::faults::{Bug, planted};
use crate::operators::InputIndex;
use crate::time::EventTime;

/// What a task sees.
#[derive(Debug)]
pub enum GateEvent {
    /// Rows for an input.
    Batch(InputIndex, RecordBatch),
    /// The lowest watermark of all senders, over all inputs, has risen.
    Watermark(EventTime),
    /// The barrier has come from every sender that has not ended.
    Barrier(Barrier),
    /// All senders have ended.
    End,
}

struct Upstream {
    receiver: Receiver,
    input: InputIndex,
    watermark: EventTime,
    /// Its barrier has come and others' have not.
    waiting: bool,
    ended: bool,
}

/// All channels into a task.
pub struct Gate {
    upstreams: Vec<Upstream>,
    watermark: EventTime,
    barrier: Option<Barrier>,
    /// What the senders have shown for the look that the next barrier carries.
    shown: Vec<(InputIndex, RecordBatch)>,
    /// Where the next look for a message begins, so that no sender starves the others.
    next: usize,
}

impl Gate {
    /// A gate over these channels, each with the input that it feeds.
    pub fn new(receivers: Vec<(InputIndex, Receiver)>) -> Gate {
        let upstreams = receivers
            .into_iter()
            .map(|(input, receiver)| Upstream {
                receiver,
                input,
                watermark: EventTime::MIN,
                waiting: false,
                ended: false,
            })
            .collect();
        Gate { upstreams, watermark: EventTime::MIN, barrier: None, shown: vec![], next: 0 }
    }

    /// The next event. Cancel-safe.
    pub async fn next(&mut self) -> GateEvent {
        poll_fn(|context| self.poll(context)).await
    }

    /// What open windows of the senders would send, as of the barrier that has just come.
    pub fn take_shown(&mut self) -> Vec<(InputIndex, RecordBatch)> {
        std::mem::take(&mut self.shown)
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<GateEvent> {
        'look: loop {
            // At the start, at an end and at a barrier several events can follow from one message.
            if let Some(event) = self.due() {
                return Poll::Ready(event);
            }
            for step in 0..self.upstreams.len() {
                let index = (self.next + step) % self.upstreams.len();
                let upstream = &mut self.upstreams[index];
                if (upstream.waiting && !planted(Bug::BarrierNotAligned)) || upstream.ended {
                    continue;
                }
                // A channel that closes without an end belongs to a task that failed: the run is being stopped.
                let Poll::Ready(Some(message)) = upstream.receiver.poll(context) else { continue };
                self.next = index + 1;
                match message {
                    Message::Batch(batch) => return Poll::Ready(GateEvent::Batch(upstream.input, batch)),
                    Message::Watermark(watermark) => upstream.watermark = upstream.watermark.max(watermark),
                    Message::Shown(batch) => self.shown.push((upstream.input, batch)),
                    Message::Barrier(barrier) => {
                        upstream.waiting = true;
                        self.barrier = Some(barrier);
                    }
                    Message::End => upstream.ended = true,
                }
                continue 'look;
            }
            return Poll::Pending;
        }
    }

    fn due(&mut self) -> Option<GateEvent> {
        // A sender that waits with its barrier holds the watermark back: what it sent before counts, and no more came.
        let lowest = self.upstreams.iter().map(|upstream| upstream.watermark).min().unwrap_or(EventTime::MAX);
        if lowest > self.watermark {
            self.watermark = lowest;
            return Some(GateEvent::Watermark(lowest));
        }
        if self.upstreams.iter().all(|upstream| upstream.waiting || upstream.ended)
            && let Some(barrier) = self.barrier.take()
        {
            self.upstreams.iter_mut().for_each(|upstream| upstream.waiting = false);
            return Some(GateEvent::Barrier(barrier));
        }
        self.upstreams.iter().all(|upstream| upstream.ended).then_some(GateEvent::End)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Int64Type;
    use futures::FutureExt;

    use super::*;
    use crate::dataflow::channel::{Sender, channel};
    use crate::time::Epoch;

    fn gate(inputs: &[InputIndex]) -> (Vec<Sender>, Gate) {
        let (senders, receivers): (Vec<_>, Vec<_>) = inputs
            .iter()
            .map(|&input| {
                let (sender, receiver) = channel();
                (sender, (input, receiver))
            })
            .unzip();
        (senders, Gate::new(receivers))
    }

    async fn rows(sender: &Sender, value: i64) {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![value]));
        sender.send(Message::Batch(RecordBatch::try_from_iter([("value", column)]).unwrap())).await.unwrap();
    }

    /// All events that are there, in a short form.
    fn drain(gate: &mut Gate) -> Vec<String> {
        let mut events = vec![];
        while let Some(event) = gate.next().now_or_never() {
            events.push(match event {
                GateEvent::Batch(input, batch) => {
                    format!("{input}:{}", batch.column(0).as_primitive::<Int64Type>().value(0))
                }
                GateEvent::Watermark(EventTime::MAX) => "w max".into(),
                GateEvent::Watermark(watermark) => format!("w {}", watermark.0),
                GateEvent::Barrier(Barrier { epoch, .. }) => format!("b {epoch}"),
                GateEvent::End => {
                    events.push("end".into());
                    break;
                }
            });
        }
        events
    }

    #[tokio::test]
    async fn the_watermark_is_the_lowest_of_all_inputs_and_only_rises() {
        let (senders, mut gate) = gate(&[0, 1]);
        senders[0].send(Message::Watermark(EventTime(5))).await.unwrap();
        assert!(drain(&mut gate).is_empty());
        senders[1].send(Message::Watermark(EventTime(3))).await.unwrap();
        assert_eq!(drain(&mut gate), ["w 3"]);
        senders[1].send(Message::Watermark(EventTime(2))).await.unwrap();
        senders[1].send(Message::Watermark(EventTime(9))).await.unwrap();
        assert_eq!(drain(&mut gate), ["w 5"]);
    }

    #[tokio::test]
    async fn a_sender_is_not_read_past_its_barrier_until_all_have_sent_theirs() {
        let (senders, mut gate) = gate(&[0, 1]);
        senders[0].send(Message::Barrier(Epoch(1).into())).await.unwrap();
        rows(&senders[0], 2).await;
        rows(&senders[1], 1).await;
        assert_eq!(drain(&mut gate), ["1:1"]);
        senders[1].send(Message::Barrier(Epoch(1).into())).await.unwrap();
        rows(&senders[1], 3).await;
        let events = drain(&mut gate);
        assert_eq!(events[0], "b 1");
        assert_eq!(events[1..].iter().collect::<std::collections::BTreeSet<_>>().len(), 2);
    }

    #[tokio::test]
    async fn what_is_shown_waits_for_the_barrier_of_all() {
        let (senders, mut gate) = gate(&[0, 1]);
        let column: ArrayRef = Arc::new(Int64Array::from(vec![7]));
        let shown = RecordBatch::try_from_iter([("value", column)]).unwrap();
        senders[1].send(Message::Shown(shown.clone())).await.unwrap();
        senders[1].send(Message::Barrier(Epoch(1).into())).await.unwrap();
        rows(&senders[0], 1).await;
        assert_eq!(drain(&mut gate), ["0:1"]);
        senders[0].send(Message::Barrier(Epoch(1).into())).await.unwrap();
        assert_eq!(drain(&mut gate), ["b 1"]);
        assert_eq!(gate.take_shown(), [(1, shown)]);
        assert!(gate.take_shown().is_empty());
    }

    #[tokio::test]
    async fn an_ended_sender_counts_for_the_barrier_and_the_end_comes_once_all_have_ended() {
        let (senders, mut gate) = gate(&[0, 0]);
        senders[0].send(Message::Barrier(Epoch(4).into())).await.unwrap();
        senders[1].send(Message::Watermark(EventTime::MAX)).await.unwrap();
        senders[1].send(Message::End).await.unwrap();
        assert_eq!(drain(&mut gate), ["b 4"]);
        senders[0].send(Message::Watermark(EventTime::MAX)).await.unwrap();
        senders[0].send(Message::End).await.unwrap();
        assert_eq!(drain(&mut gate), ["w max", "end"]);
    }

    #[tokio::test]
    async fn a_drained_sender_holds_the_watermark_where_it_was() {
        let (senders, mut gate) = gate(&[0, 0]);
        senders[0].send(Message::Watermark(EventTime(7))).await.unwrap();
        senders[0].send(Message::End).await.unwrap();
        senders[1].send(Message::Watermark(EventTime::MAX)).await.unwrap();
        senders[1].send(Message::End).await.unwrap();
        assert_eq!(drain(&mut gate), ["w 7", "end"]);
    }

    #[tokio::test]
    async fn a_sender_that_vanishes_is_no_end() {
        let (mut senders, mut gate) = gate(&[0, 0]);
        senders[0].send(Message::End).await.unwrap();
        senders.clear();
        assert!(drain(&mut gate).is_empty());
    }

    #[tokio::test]
    async fn without_senders_there_is_nothing_but_the_end() {
        let (_, mut gate) = gate(&[]);
        assert_eq!(drain(&mut gate), ["w max", "end"]);
    }

    #[tokio::test]
    async fn no_sender_starves_another() {
        let (senders, mut gate) = gate(&[0, 1]);
        for _ in 0..4 {
            rows(&senders[0], 0).await;
            rows(&senders[1], 0).await;
        }
        assert_eq!(drain(&mut gate), ["0:0", "1:0", "0:0", "1:0", "0:0", "1:0", "0:0", "1:0"]);
    }
}
