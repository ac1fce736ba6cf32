//! librdkafka's batch calls behind a safe face: the only unsafe code of this connector.
//!
//! rdkafka hands over one message a call, each with an event of its own; at a million messages a second that costs
//! more than the rest of the way. [`Consumer`] takes hundreds at once with `rd_kafka_consume_batch_queue` and lends
//! their bytes. Log lines, errors and commit results arrive on the client's main queue, which is kept apart from the
//! messages and read by [`Consumer::events`].

use std::ffi::{CStr, CString, c_char};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka::bindings as native;
use rdkafka::client::{Client, DefaultClientContext};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::metadata::Metadata;
use rdkafka::producer::{Producer, ProducerContext, ThreadedProducer};
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr, RDKafkaType};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// A client that reads the partitions it is given.
pub(super) struct Consumer {
    // Before `client`: fields are dropped in this order, and a queue must not outlive its client.
    messages: Queue,
    main: Queue,
    client: Client<DefaultClientContext>,
}

/// A reference to one of a client's queues.
struct Queue(NonNull<native::rd_kafka_queue_t>);

// SAFETY: librdkafka's queues are guarded by a mutex of their own and may be used and released on any thread.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the pointer came from a call that gives a reference away, and this is its only release.
        unsafe { native::rd_kafka_queue_destroy(self.0.as_ptr()) }
    }
}

/// What a client has to say beside its messages.
pub(super) enum ClientEvent {
    /// A line for the log.
    Log(RDKafkaLogLevel, String, String),
    /// Something is wrong with the client as a whole.
    Error(RDKafkaErrorCode, String),
    /// A commit failed.
    CommitFailed(RDKafkaErrorCode),
}

impl Consumer {
    /// Makes the client. Connects to nothing yet.
    pub(super) fn new(config: &ClientConfig) -> KafkaResult<Consumer> {
        let settings = config.create_native_config()?;
        let events = native::RD_KAFKA_EVENT_ERROR | native::RD_KAFKA_EVENT_OFFSET_COMMIT;
        // SAFETY: `settings` owns the configuration that its pointer names; the call stores a number in it.
        unsafe { native::rd_kafka_conf_set_events(settings.ptr(), events) };
        let client = Client::new(config, settings, RDKafkaType::RD_KAFKA_CONSUMER, DefaultClientContext)?;
        // SAFETY: the client lives; both calls give a reference of our own, which `Queue` releases, or null.
        let (messages, main) = unsafe {
            (
                NonNull::new(native::rd_kafka_queue_get_consumer(client.native_ptr())),
                NonNull::new(native::rd_kafka_queue_get_main(client.native_ptr())),
            )
        };
        match (messages, main) {
            (Some(messages), Some(main)) => Ok(Consumer { messages: Queue(messages), main: Queue(main), client }),
            _ => Err(KafkaError::ClientCreation("a consumer needs a 'group.id'".into())),
        }
    }

    /// Takes up to `limit` messages that are there; waits up to `wait` for the first.
    pub(super) fn consume(&self, batch: &mut Messages, limit: usize, wait: Duration) {
        batch.clear();
        batch.pointers.reserve(limit);
        // librdkafka waits until the whole array is full, so that it gets room for one message while it waits.
        if self.fill(batch, limit.min(1), wait) {
            self.fill(batch, limit - 1, Duration::ZERO);
        }
    }

    fn fill(&self, batch: &mut Messages, limit: usize, wait: Duration) -> bool {
        let length = batch.pointers.len();
        let limit = limit.min(batch.pointers.capacity() - length);
        let wait = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the queue lives as long as `self`; the array begins at the vector's end and has room for `limit`
        // pointers, because `limit` is at most what is left of its capacity. The call initialises the first `count`
        // of them with messages that are ours to destroy, which `Messages` does; it gives -1 on error.
        let count = unsafe {
            let end = batch.pointers.as_mut_ptr().add(length);
            let count = native::rd_kafka_consume_batch_queue(self.messages.0.as_ptr(), wait, end, limit);
            let count = usize::try_from(count).unwrap_or(0);
            batch.pointers.set_len(length + count);
            count
        };
        count > 0
    }

    /// Takes what is on the main queue, without waiting.
    pub(super) fn events(&self, mut handle: impl FnMut(ClientEvent)) {
        loop {
            // SAFETY: the queue lives as long as `self`; the event is ours and destroyed below.
            let Some(event) = NonNull::new(unsafe { native::rd_kafka_queue_poll(self.main.0.as_ptr(), 0) }) else {
                return;
            };
            // SAFETY: the event lives until the destroy, and what is read from it is copied before.
            let said = unsafe { read_event(event.as_ptr()) };
            // SAFETY: the only release of this event.
            unsafe { native::rd_kafka_event_destroy(event.as_ptr()) };
            if let Some(said) = said {
                handle(said);
            }
        }
    }

    /// Starts to read these partitions, beside those that are read already.
    pub(super) fn assign(&self, partitions: &TopicPartitionList) -> Result<(), String> {
        // SAFETY: client and list live through the call, which copies the list; the result is checked and released.
        unsafe { outcome(native::rd_kafka_incremental_assign(self.client.native_ptr(), partitions.ptr())) }
    }

    /// Stops to read these partitions.
    pub(super) fn unassign(&self, partitions: &TopicPartitionList) -> Result<(), String> {
        // SAFETY: as for `assign`.
        unsafe { outcome(native::rd_kafka_incremental_unassign(self.client.native_ptr(), partitions.ptr())) }
    }

    /// Sends the group's offsets off; a failure arrives as an event.
    pub(super) fn commit(&self, offsets: &TopicPartitionList) -> Result<(), RDKafkaErrorCode> {
        // SAFETY: client and list live through the call, which copies the list.
        let code = unsafe { native::rd_kafka_commit(self.client.native_ptr(), offsets.ptr(), 1) };
        check(code)
    }

    /// The topic's partitions. Asks the server and waits for the answer.
    pub(super) fn metadata(&self, topic: &str, timeout: Duration) -> KafkaResult<Metadata> {
        self.client.fetch_metadata(Some(topic), timeout)
    }

    /// The first offset and the one after the last readable record. Asks the server and waits for the answer.
    pub(super) fn watermarks(&self, topic: &str, partition: i32, timeout: Duration) -> KafkaResult<(i64, i64)> {
        self.client.fetch_watermarks(topic, partition, timeout)
    }

    /// One past the newest record as the last fetch told; `None` before the first.
    pub(super) fn cached_end(&self, topic: &str, partition: i32) -> Option<i64> {
        let topic = CString::new(topic).ok()?;
        let (mut low, mut high) = (-1, -1);
        // SAFETY: client and name live through the call; both numbers are ours to write.
        let code = unsafe {
            let client = self.client.native_ptr();
            native::rd_kafka_get_watermark_offsets(client, topic.as_ptr(), partition, &mut low, &mut high)
        };
        (check(code).is_ok() && high >= 0).then_some(high)
    }

    /// The cluster's id. Asks the server and waits for the answer if it is not known; `None` if there is no answer.
    pub(super) fn cluster_id(&self, timeout: Duration) -> Option<String> {
        let timeout = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the client lives; the call gives null or a string that is ours, copied before its only release.
        unsafe {
            let client = self.client.native_ptr();
            let id = native::rd_kafka_clusterid(client, timeout);
            if id.is_null() {
                return None;
            }
            let copy = text(id);
            native::rd_kafka_mem_free(client, id.cast());
            Some(copy)
        }
    }

    /// The id of a topic, which a topic of the same name made later does not have. Asks the server and waits for the
    /// answer; `None` if it has none, as from brokers before 2.8.
    pub(super) fn topic_id(&self, topic: &str, timeout: Duration) -> Option<String> {
        let name = CString::new(topic).ok()?;
        let wait = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: name, collection, options and queue live through the request, which copies what it needs, and are
        // released once. The event is ours; what is read from it is copied before its release, and `topics` holds
        // `count` pointers that live as long as the event.
        unsafe {
            let client = self.client.native_ptr();
            let mut names = [name.as_ptr()];
            let asked = native::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), 1);
            let queue = NonNull::new(native::rd_kafka_queue_new(client)).map(Queue);
            let kind = native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
            let options = native::rd_kafka_AdminOptions_new(client, kind);
            native::rd_kafka_AdminOptions_set_request_timeout(options, wait, ptr::null_mut(), 0);
            let event = queue.as_ref().and_then(|queue| {
                native::rd_kafka_DescribeTopics(client, asked, options, queue.0.as_ptr());
                NonNull::new(native::rd_kafka_queue_poll(queue.0.as_ptr(), wait))
            });
            native::rd_kafka_AdminOptions_destroy(options);
            native::rd_kafka_TopicCollection_destroy(asked);
            let event = event?;
            let result = native::rd_kafka_event_DescribeTopics_result(event.as_ptr());
            let mut id = None;
            if !result.is_null() {
                let mut count = 0;
                let topics = native::rd_kafka_DescribeTopics_result_topics(result, &mut count);
                let uuid = match count {
                    0 => ptr::null(),
                    _ => native::rd_kafka_TopicDescription_topic_id(*topics),
                };
                if !uuid.is_null() {
                    // All zero when the broker gives none.
                    let bits = native::rd_kafka_Uuid_most_significant_bits(uuid)
                        | native::rd_kafka_Uuid_least_significant_bits(uuid);
                    id = (bits != 0).then(|| text(native::rd_kafka_Uuid_base64str(uuid)));
                }
            }
            native::rd_kafka_event_destroy(event.as_ptr());
            id
        }
    }

    /// Turns the moments in the list (milliseconds, in place of offsets) into the offsets of the first records at or
    /// after them. Asks the server and waits for the answer.
    pub(super) fn offsets_for_times(
        &self,
        moments: TopicPartitionList,
        timeout: Duration,
    ) -> Result<TopicPartitionList, RDKafkaErrorCode> {
        let timeout = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: client and list live through the call, which writes offsets into the list.
        let code = unsafe { native::rd_kafka_offsets_for_times(self.client.native_ptr(), moments.ptr(), timeout) };
        check(code).map(|()| moments)
    }
}

/// Messages taken at once. Their bytes belong to librdkafka and are given back by [`Messages::clear`].
#[derive(Default)]
pub(super) struct Messages {
    pointers: Vec<*mut native::rd_kafka_message_t>,
}

// SAFETY: messages are plain memory that librdkafka lets any thread read and destroy.
unsafe impl Send for Messages {}

impl Messages {
    /// Gives all messages back.
    pub(super) fn clear(&mut self) {
        for pointer in self.pointers.drain(..) {
            // SAFETY: every pointer came from `consume`, is non-null and is released only here.
            unsafe { native::rd_kafka_message_destroy(pointer) }
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.pointers.len()
    }

    /// Each in turn.
    pub(super) fn iter(&self) -> impl Iterator<Item = Message<'_>> {
        self.pointers.iter().filter_map(|pointer| NonNull::new(*pointer)).map(|pointer| Message(pointer, PhantomData))
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A record, or an error in its place.
#[derive(Clone, Copy)]
pub(super) struct Message<'a>(NonNull<native::rd_kafka_message_t>, PhantomData<&'a Messages>);

/// The topic of a message, as a number to compare with. Equal for two messages of a batch only if the topic is the same:
/// each of them keeps its topic alive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct TopicHandle(*mut native::rd_kafka_topic_t);

impl<'a> Message<'a> {
    fn native(&self) -> &'a native::rd_kafka_message_t {
        // SAFETY: the message lives until `Messages::clear`, which needs the batch that `'a` borrows. Nothing writes
        // to it meanwhile.
        unsafe { self.0.as_ref() }
    }

    /// What stands in the record's place, if it is not a record.
    pub(super) fn error(&self) -> Option<(RDKafkaErrorCode, String)> {
        // Read as a number: a code that the enum lacks, from a newer broker, would be no valid value of it.
        // SAFETY: the field is an `int` in C and as long as an i32, and the message lives.
        let code: i32 = unsafe { ptr::addr_of!((*self.0.as_ptr()).err).cast::<i32>().read() };
        if code == 0 {
            return None;
        }
        // SAFETY: the message lives; the text is its payload, or a constant, and copied at once.
        let reason = unsafe { text(native::rd_kafka_message_errstr(self.0.as_ptr())) };
        let code = RDKafkaRespErr::try_from(code).map_or(RDKafkaErrorCode::Unknown, RDKafkaErrorCode::from);
        Some((code, reason))
    }

    /// Its topic, to compare with.
    pub(super) fn topic_handle(&self) -> TopicHandle {
        TopicHandle(self.native().rkt)
    }

    /// Its topic's name; empty if it has none.
    pub(super) fn topic(&self) -> &'a str {
        let topic = self.native().rkt;
        if topic.is_null() {
            return "";
        }
        // SAFETY: the message keeps its topic alive, and the topic its name, which is ASCII.
        unsafe { CStr::from_ptr(native::rd_kafka_topic_name(topic)) }.to_str().unwrap_or("")
    }

    /// The number of its partition.
    pub(super) fn partition(&self) -> i32 {
        self.native().partition
    }

    /// Its place in the partition.
    pub(super) fn offset(&self) -> i64 {
        self.native().offset
    }

    /// Its value; empty if it has none.
    pub(super) fn value(&self) -> &'a [u8] {
        let message = self.native();
        // SAFETY: payload and length describe memory that the message owns.
        unsafe { bytes(message.payload.cast(), message.len) }.unwrap_or_default()
    }

    /// Its key, if it has one.
    pub(super) fn key(&self) -> Option<&'a [u8]> {
        let message = self.native();
        // SAFETY: as for the value.
        unsafe { bytes(message.key.cast(), message.key_len) }
    }

    /// Gives each of its headers to `each`, name and value, in their order.
    pub(super) fn headers(&self, mut each: impl FnMut(&[u8], Option<&[u8]>)) {
        let mut headers = ptr::null_mut();
        // SAFETY: the message lives, owns the headers and keeps them while it does; `headers` is ours to write.
        let code = unsafe { native::rd_kafka_message_headers(self.0.as_ptr(), &mut headers) };
        if check(code).is_err() {
            return;
        }
        for index in 0.. {
            let (mut name, mut value, mut length) = (ptr::null(), ptr::null(), 0);
            // SAFETY: the headers live as long as the message; the three results are ours to write.
            let code = unsafe { native::rd_kafka_header_get_all(headers, index, &mut name, &mut value, &mut length) };
            if check(code).is_err() || name.is_null() {
                return;
            }
            // SAFETY: the name is a C string and the value, if not null, has that length; the message owns both.
            let (name, value) = unsafe { (CStr::from_ptr(name), bytes(value.cast(), length)) };
            each(name.to_bytes(), value);
        }
    }

    /// Its time in milliseconds since 1970, if it has one.
    pub(super) fn timestamp(&self) -> Option<i64> {
        let mut kind = native::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message lives and `kind` is ours to write.
        let millis = unsafe { native::rd_kafka_message_timestamp(self.0.as_ptr(), &mut kind) };
        (kind != native::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE && millis >= 0).then_some(millis)
    }
}

/// Waits until every record is acknowledged or has failed; `false` if that takes longer than `wait`.
///
/// rdkafka's own flush polls in steps of 100 ms and so adds up to that much to every barrier.
pub(super) fn flush<C: ProducerContext>(producer: &ThreadedProducer<C>, wait: Duration) -> bool {
    let wait = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the client lives as long as `producer`; the call may be made on any thread.
    let code = unsafe { native::rd_kafka_flush(producer.client().native_ptr(), wait) };
    check(code).is_ok()
}

/// What a call about a transaction came to.
pub(super) struct TransactionError {
    pub(super) code: RDKafkaErrorCode,
    pub(super) reason: String,
    /// The same call again goes on with what it began.
    pub(super) call_again: bool,
}

/// A call about transactions, which may be made again and again until it is through.
#[derive(Clone, Copy)]
pub(super) enum TransactionCall {
    Init,
    Begin,
    Commit,
    Abort,
}

/// Makes the call and waits up to `wait` for its outcome. rdkafka's own commit polls in steps of 100 ms.
pub(super) fn transaction<C: ProducerContext>(
    producer: &ThreadedProducer<C>,
    call: TransactionCall,
    wait: Duration,
) -> Result<(), TransactionError> {
    let wait = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
    let client = producer.client().native_ptr();
    // SAFETY: the client lives as long as `producer`; the calls may be made on any thread and give null or an error
    // object that is ours, whose text is copied before its only release.
    unsafe {
        let error = match call {
            TransactionCall::Init => native::rd_kafka_init_transactions(client, wait),
            TransactionCall::Begin => native::rd_kafka_begin_transaction(client),
            TransactionCall::Commit => native::rd_kafka_commit_transaction(client, wait),
            TransactionCall::Abort => native::rd_kafka_abort_transaction(client, wait),
        };
        if error.is_null() {
            return Ok(());
        }
        let is_lost =
            native::rd_kafka_error_is_fatal(error) != 0 || native::rd_kafka_error_txn_requires_abort(error) != 0;
        let said = TransactionError {
            code: native::rd_kafka_error_code(error).into(),
            reason: text(native::rd_kafka_error_string(error)),
            call_again: !is_lost && native::rd_kafka_error_is_retriable(error) != 0,
        };
        native::rd_kafka_error_destroy(error);
        Err(said)
    }
}

/// The names of all settings that librdkafka knows.
pub(super) fn setting_names() -> Vec<String> {
    // SAFETY: both configurations are made and released here. A dump is an array of `count` strings, names and values
    // in turn, that stays ours until it is freed; the names are copied before.
    unsafe {
        let (client, topic) = (native::rd_kafka_conf_new(), native::rd_kafka_topic_conf_new());
        let mut names = vec![];
        let mut copy = |array: *mut *const c_char, count: usize| {
            if !array.is_null() {
                names.extend((0..count).step_by(2).map(|at| text(*array.add(at))));
                native::rd_kafka_conf_dump_free(array, count);
            }
        };
        let mut count = 0;
        let array = native::rd_kafka_conf_dump(client, &mut count);
        copy(array, count);
        let array = native::rd_kafka_topic_conf_dump(topic, &mut count);
        copy(array, count);
        native::rd_kafka_conf_destroy(client);
        native::rd_kafka_topic_conf_destroy(topic);
        names
    }
}

/// An offset list with one entry a partition.
pub(super) fn offset_list<'a>(entries: impl IntoIterator<Item = (&'a str, i32, i64)>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (topic, partition, offset) in entries {
        list.add_partition(topic, partition);
        // The entry was just added and every number is an offset to librdkafka, so that this cannot fail.
        let _ = list.set_partition_offset(topic, partition, Offset::from_raw(offset));
    }
    list
}

/// # Safety
/// `event` is alive.
unsafe fn read_event(event: *mut native::rd_kafka_event_t) -> Option<ClientEvent> {
    // SAFETY: the caller keeps the event alive; all texts are copied.
    unsafe {
        match native::rd_kafka_event_type(event) {
            native::RD_KAFKA_EVENT_LOG => {
                let (mut facility, mut message, mut level) = (ptr::null(), ptr::null(), 0);
                let failed = native::rd_kafka_event_log(event, &mut facility, &mut message, &mut level) != 0;
                (!failed).then(|| ClientEvent::Log(log_level(level), text(facility), text(message)))
            }
            native::RD_KAFKA_EVENT_ERROR => {
                let code = native::rd_kafka_event_error(event).into();
                Some(ClientEvent::Error(code, text(native::rd_kafka_event_error_string(event))))
            }
            native::RD_KAFKA_EVENT_OFFSET_COMMIT => {
                check(native::rd_kafka_event_error(event)).err().map(ClientEvent::CommitFailed)
            }
            _ => None,
        }
    }
}

fn log_level(level: i32) -> RDKafkaLogLevel {
    match level {
        ..=3 => RDKafkaLogLevel::Error,
        4 => RDKafkaLogLevel::Warning,
        5 => RDKafkaLogLevel::Notice,
        6 => RDKafkaLogLevel::Info,
        7.. => RDKafkaLogLevel::Debug,
    }
}

fn check(code: RDKafkaRespErr) -> Result<(), RDKafkaErrorCode> {
    match code {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        code => Err(code.into()),
    }
}

/// # Safety
/// `error` is null or an error object that is ours, which this releases.
unsafe fn outcome(error: *mut native::rd_kafka_error_t) -> Result<(), String> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: not null, so an error object; its text is copied before the release.
    unsafe {
        let message = text(native::rd_kafka_error_string(error));
        native::rd_kafka_error_destroy(error);
        Err(message)
    }
}

/// # Safety
/// `text` is null or a C string.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: not null, so a C string.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().trim().to_owned()
}

/// # Safety
/// `start` is null or the start of `length` bytes that live for `'a`.
unsafe fn bytes<'a>(start: *const u8, length: usize) -> Option<&'a [u8]> {
    if start.is_null() {
        return None;
    }
    // SAFETY: not null, so the caller's promise holds.
    Some(unsafe { std::slice::from_raw_parts(start, length) })
}
