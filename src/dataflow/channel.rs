//! What travels between tasks, and the bounded channels that it travels in.
//!
//! There is one channel for each pair of a sending and a receiving task on an edge, so that a receiver can leave one
//! sender alone while it waits for a barrier from another. A channel holds a few messages and a bounded number of
//! bytes; a sender that finds it full waits, and so a slow sink slows its sources down.

use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::live::look::Look;
use crate::time::{Epoch, EventTime};

/// Messages that a channel holds. A batch is mostly followed by a watermark, so this is about four batches.
const CAPACITY: usize = 8;
/// Bytes of batches that a channel holds; a batch that is larger travels alone.
const BYTES: usize = 16 << 20;

/// One thing that a task tells another. All kinds keep their order.
#[derive(Clone, Debug)]
pub enum Message {
    /// Rows.
    Batch(RecordBatch),
    /// No row at or before this event time that counts will come from this sender. Rising.
    Watermark(EventTime),
    /// What open windows would send if they closed now: for the look that the next barrier carries.
    Shown(RecordBatch),
    /// All rows of the epoch have been sent.
    Barrier(Barrier),
    /// The sender is done. Without a watermark of [`EventTime::MAX`] before it, the input has not come to its end: it
    /// was told to stop, and windows that are open stay open.
    End,
}

/// The end of an epoch, on its way through the run.
#[derive(Clone, Debug)]
pub struct Barrier {
    /// The epoch.
    pub epoch: Epoch,
    /// No other will come: what is sent after it is in no epoch.
    pub last: bool,
    /// Set when somebody wants to know what open windows hold at it.
    pub look: Option<Arc<Look>>,
}

impl From<Epoch> for Barrier {
    fn from(epoch: Epoch) -> Barrier {
        Barrier { epoch, last: false, look: None }
    }
}

/// The receiver is gone: its task has ended before its time, so the run is failing.
#[derive(Debug)]
pub struct Closed;

struct Envelope {
    message: Message,
    // Given back when the receiver takes the message out.
    _bytes: Option<OwnedSemaphorePermit>,
}

/// The sending end.
pub struct Sender {
    messages: mpsc::Sender<Envelope>,
    bytes: Arc<Semaphore>,
}

/// The receiving end.
pub struct Receiver(mpsc::Receiver<Envelope>);

/// A new channel.
pub fn channel() -> (Sender, Receiver) {
    let (sender, receiver) = mpsc::channel(CAPACITY);
    (Sender { messages: sender, bytes: Arc::new(Semaphore::new(BYTES)) }, Receiver(receiver))
}

impl Sender {
    /// Sends, waiting for room.
    ///
    /// # Errors
    /// [`Closed`] when the receiver is gone.
    pub async fn send(&self, message: Message) -> Result<(), Closed> {
        let permit = match &message {
            Message::Batch(batch) | Message::Shown(batch) => {
                let bytes = batch.get_array_memory_size().clamp(1, BYTES) as u32;
                Some(Arc::clone(&self.bytes).acquire_many_owned(bytes).await.map_err(|_| Closed)?)
            }
            _ => None,
        };
        self.messages.send(Envelope { message, _bytes: permit }).await.map_err(|_| Closed)
    }
}

impl Receiver {
    /// The next message; `None` when the sender is gone and nothing is left.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Message>> {
        self.0.poll_recv(context).map(|envelope| Some(envelope?.message))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use arrow::array::{ArrayRef, BinaryArray};

    use super::*;

    fn batch(bytes: usize) -> RecordBatch {
        let value = vec![0_u8; bytes];
        let column: ArrayRef = Arc::new(BinaryArray::from_vec(vec![&value]));
        RecordBatch::try_from_iter([("value", column)]).unwrap()
    }

    async fn sent_before_it_is_full(bytes: usize) -> usize {
        let (sender, _receiver) = channel();
        let mut sent = 0;
        let enough = tokio::time::timeout(Duration::from_secs(1), async {
            loop {
                sender.send(Message::Batch(batch(bytes))).await.unwrap();
                sent += 1;
            }
        });
        enough.await.unwrap_err();
        sent
    }

    #[tokio::test(start_paused = true)]
    async fn it_holds_few_messages_and_fewer_when_they_are_large() {
        assert_eq!(sent_before_it_is_full(10).await, CAPACITY);
        assert_eq!(sent_before_it_is_full(BYTES / 3).await, 2);
        assert_eq!(sent_before_it_is_full(BYTES * 2).await, 1);
    }

    #[tokio::test]
    async fn a_large_message_gives_its_bytes_back() {
        let (sender, mut receiver) = channel();
        for _ in 0..3 {
            sender.send(Message::Batch(batch(BYTES * 2))).await.unwrap();
            assert!(matches!(poll_fn(|context| receiver.poll(context)).await, Some(Message::Batch(_))));
        }
    }
}
