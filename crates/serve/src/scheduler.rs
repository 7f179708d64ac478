//! Decides which texts are computed next: one engine thread, a queue ordered by cost, batches without padding.
//!
//! ```text
//! request ─▶ tokens ─▶ items (a text each) ─▶ queue ─▶ batch ─▶ engine ─▶ request
//!                       cost = tokens + tokens²/4096      short before long, none waits for ever
//! ```
//! A lone request starts at once: when the engine is free, it takes the texts that wait, and does not wait for more. A request larger than a
//! batch is computed in several batches, and other requests get their turn in between. Texts whose client has disconnected are dropped from the queue.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::oneshot;

use super::memory::Held;
use trivec::Error;
use trivec::{Embedding, Modes};
use trivec::{EncodeOptions, Model};
use trivec_cache::Wanted;

/// The most tokens of a batch, unless it is one longer text; the engine's own batches have this size too.
pub(super) const BATCH_TOKENS: usize = 4096;

/// How long an item may wait behind cheaper ones; after this time the oldest item is first.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// The cost of a text of so many tokens. A token of a short text costs 1; the second term is attention, which grows with the square of the length.
pub(super) fn cost(tokens: usize) -> u64 {
    let tokens = tokens as u64;
    tokens + tokens * tokens / 4096
}

/// Why there is no result.
#[derive(Debug)]
pub(super) enum Refused {
    /// The queue is full. `queued` is the cost of what waits and of what is reserved, `limit` the most that it may be, and `busy` the estimated time until
    /// the engine has computed it.
    Full { queued: u64, limit: u64, busy: Duration },
    /// The service is ending.
    Ending,
    /// The engine panicked on this request.
    Panicked,
    /// The engine's own error.
    Engine(Error),
}

/// How long a request's parts took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Timing {
    /// Time until the engine began with the request's first part; with [`Timing::then`] the sum of the times that its parts waited.
    pub queued: Duration,
    /// Time of all batches and calls that contained a part of the request.
    pub computed: Duration,
}

impl Timing {
    /// Adds the times of a part that entered the queue after the parts before it were computed.
    pub(super) fn then(&mut self, next: Timing) {
        self.queued += next.queued;
        self.computed += next.computed;
    }

    /// Adds a part that entered the queue together with the others, waited for `queued` and took `computed`.
    fn add(&mut self, is_first: bool, queued: Duration, computed: Duration) {
        self.queued = if is_first { queued } else { self.queued.min(queued) };
        self.computed += computed;
    }
}

/// The result of a request: the embeddings of its texts, in their order.
type Encoded = Result<(Vec<Embedding>, Timing), Refused>;

/// A request's texts that are waiting or being computed.
struct Request {
    model: Arc<Model>,
    wanted: Wanted,
    cancelled: AtomicBool,
    state: Mutex<Progress>,
    /// Accounts for the memory of texts and results until the last of them is dropped.
    _held: Arc<Held>,
}

/// How far a request is. `left` counts the texts that are not computed yet; `reply` is where the result goes.
struct Progress {
    results: Vec<Option<Embedding>>,
    left: usize,
    timing: Timing,
    /// When the last batch with a text of the request began.
    batch: Option<Instant>,
    reply: Option<oneshot::Sender<Encoded>>,
}

impl Request {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the request with an error, so that its other texts are dropped.
    fn fail(&self, refused: Refused) {
        self.cancelled.store(true, Ordering::Relaxed);
        if let Some(reply) = self.progress().reply.take() {
            // The client may have disconnected.
            let _ = reply.send(Err(refused));
        }
    }
}

type Call = Box<dyn FnOnce() + Send>;

/// The work of an item of the queue.
enum Work {
    /// One text of a request.
    Text { request: Arc<Request>, index: usize, ids: Vec<u32> },
    /// Another call that needs the engine; the flag says that its client has disconnected.
    Call(Call, Arc<AtomicBool>),
}

/// An item of the queue; it waits since `since`.
struct Item {
    work: Work,
    cost: u64,
    since: Instant,
}

impl Item {
    fn is_cancelled(&self) -> bool {
        match &self.work {
            Work::Text { request, .. } => request.cancelled.load(Ordering::Relaxed),
            Work::Call(_, cancelled) => cancelled.load(Ordering::Relaxed),
        }
    }
}

/// The waiting items, and `cost`, the sum of their costs.
#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    cost: u64,
    /// The cost reserved for parts that requests in progress have yet to submit.
    reserved: u64,
    ending: bool,
}

impl Queue {
    /// Drops items whose clients have disconnected.
    fn drop_cancelled(&mut self, counters: &Counters) {
        let before = self.items.len();
        self.items.retain(|item| !item.is_cancelled());
        counters.cancelled.fetch_add((before - self.items.len()) as u64, Ordering::Relaxed);
        self.cost = self.items.iter().map(|item| item.cost).sum();
    }

    /// The cost of all waiting items and of all reserved parts.
    fn promised(&self) -> u64 {
        self.cost + self.reserved
    }

    /// Refuses a cost that, with what waits and what is reserved, would exceed `limit`. If nothing waits or is reserved, any cost fits, even one above
    /// `limit`. Before it refuses, this drops the items whose clients have disconnected.
    fn check_room(&mut self, cost: u64, limit: u64, counters: &Counters) -> Result<(), Refused> {
        let is_full = |queue: &Queue| queue.promised() > 0 && queue.promised() + cost > limit;
        if is_full(self) {
            // Items whose clients have disconnected must not take room from others.
            self.drop_cancelled(counters);
        }
        if is_full(self) {
            let queued = self.promised();
            return Err(Refused::Full { queued, limit, busy: counters.time_for(queued) });
        }
        Ok(())
    }
}

/// Room that is reserved in the queue for a request whose texts are submitted part by part: once the request has begun, no part of it is refused, and a
/// service that ends waits for the last part.
pub(super) struct Room<'a> {
    shared: &'a Shared,
    left: AtomicU64,
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.shared.queue().reserved -= *self.left.get_mut();
        self.shared.wake.notify_one();
    }
}

/// The queue's and the engine's counters for `/metrics`.
#[derive(Debug)]
pub(super) struct Counters {
    pub batches: AtomicU64,
    pub batch_tokens: AtomicU64,
    pub batch_sizes: Histogram,
    pub texts: AtomicU64,
    pub cancelled: AtomicU64,
    pub panics: AtomicU64,
    pub busy_micros: AtomicU64,
}

impl Default for Counters {
    fn default() -> Counters {
        let zero = AtomicU64::default;
        Counters {
            batches: zero(),
            batch_tokens: zero(),
            // 4 to 65,536 tokens: a batch can be one text of any length.
            batch_sizes: Histogram::new((2..=16).map(|i| f64::from(1 << i))),
            texts: zero(),
            cancelled: zero(),
            panics: zero(),
            busy_micros: zero(),
        }
    }
}

impl Counters {
    /// Estimates the time that the engine needs for a cost, from its speed until now; zero before the first batch.
    fn time_for(&self, cost: u64) -> Duration {
        let (tokens, micros) = (self.batch_tokens.load(Ordering::Relaxed), self.busy_micros.load(Ordering::Relaxed));
        Duration::from_micros(
            u128::from(cost).saturating_mul(micros.into()).checked_div(tokens.into()).unwrap_or(0) as u64
        )
    }
}

/// What the routes and the engine thread share. `limit` is the most cost that may wait.
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    limit: u64,
    counters: Counters,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The queue and the engine thread.
pub(super) struct Scheduler {
    shared: Arc<Shared>,
    engine: Mutex<Option<JoinHandle<()>>>,
}

/// If this is dropped before the request's result has arrived (its client has disconnected, or one of its calls failed), it removes the request's items
/// from the queue.
struct GiveUp<'a, F: Fn()> {
    cancel: F,
    shared: &'a Shared,
    done: bool,
}

impl<F: Fn()> Drop for GiveUp<'_, F> {
    fn drop(&mut self) {
        if !self.done {
            (self.cancel)();
            self.shared.queue().drop_cancelled(&self.shared.counters);
        }
    }
}

impl Scheduler {
    /// Creates a queue in which texts of a total cost of `limit` may wait, and starts the engine thread.
    pub(super) fn new(limit: u64) -> std::io::Result<Scheduler> {
        let shared =
            Arc::new(Shared { queue: Mutex::default(), wake: Condvar::new(), limit, counters: Counters::default() });
        let of_engine = Arc::clone(&shared);
        let engine = std::thread::Builder::new().name("trivec-engine".to_owned()).spawn(move || run(&of_engine))?;
        Ok(Scheduler { shared, engine: Mutex::new(Some(engine)) })
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// The number of waiting items, and their cost.
    pub(super) fn depth(&self) -> (usize, u64) {
        let queue = self.shared.queue();
        (queue.items.len(), queue.cost)
    }

    pub(super) fn limit(&self) -> u64 {
        self.shared.limit
    }

    /// Reserves room in the queue for texts of a total `cost` that are submitted in parts.
    pub(super) fn reserve(&self, cost: u64) -> Result<Room<'_>, Refused> {
        let mut queue = self.shared.queue();
        if queue.ending {
            return Err(Refused::Ending);
        }
        queue.check_room(cost, self.shared.limit, &self.shared.counters)?;
        queue.reserved += cost;
        Ok(Room { shared: &self.shared, left: AtomicU64::new(cost) })
    }

    /// The embeddings of texts given as token ids, in their order. `room` is what the request has reserved, if these texts are a part of it.
    pub(super) async fn encode(
        &self,
        model: Arc<Model>,
        texts: Vec<Vec<u32>>,
        wanted: Wanted,
        held: Arc<Held>,
        room: Option<&Room<'_>>,
    ) -> Encoded {
        if texts.is_empty() {
            return Ok((Vec::new(), Timing::default()));
        }
        let (reply, result) = oneshot::channel();
        let count = texts.len();
        let request = Arc::new(Request {
            model,
            wanted,
            cancelled: AtomicBool::new(false),
            state: Mutex::new(Progress {
                results: (0..count).map(|_| None).collect(),
                left: count,
                timing: Timing::default(),
                batch: None,
                reply: Some(reply),
            }),
            _held: held,
        });
        let since = Instant::now();
        let items = texts.into_iter().enumerate().map(|(index, ids)| Item {
            cost: cost(ids.len()),
            work: Work::Text { request: Arc::clone(&request), index, ids },
            since,
        });
        self.push(items.collect(), room)?;
        let given_up = Arc::clone(&request);
        let cancel = move || given_up.cancelled.store(true, Ordering::Relaxed);
        let mut give_up = GiveUp { cancel, shared: &self.shared, done: false };
        let result = result.await;
        give_up.done = true;
        result.unwrap_or(Err(Refused::Ending))
    }

    /// Runs calls on the engine thread, each with its cost; other items get their turn between them. Returns the calls' results in order.
    pub(super) async fn calls<R: Send + 'static>(
        &self,
        calls: Vec<(u64, impl FnOnce() -> Result<R, Error> + Send + 'static)>,
    ) -> Result<(Vec<R>, Timing), Refused> {
        let cancelled = Arc::new(AtomicBool::new(false));
        let since = Instant::now();
        let (mut items, mut results) = (Vec::new(), Vec::new());
        for (cost, call) in calls {
            let (reply, result) = oneshot::channel();
            let shared = Arc::clone(&self.shared);
            let run = move || {
                let begin = Instant::now();
                let outcome = catch_unwind(AssertUnwindSafe(call));
                let timing = Timing { queued: begin - since, computed: begin.elapsed() };
                // The client may have disconnected.
                let _ = reply.send(match outcome {
                    Ok(Ok(value)) => Ok((value, timing)),
                    Ok(Err(e)) => Err(Refused::Engine(e)),
                    Err(_) => {
                        shared.counters.panics.fetch_add(1, Ordering::Relaxed);
                        Err(Refused::Panicked)
                    }
                });
            };
            items.push(Item { work: Work::Call(Box::new(run), Arc::clone(&cancelled)), cost, since });
            results.push(result);
        }
        self.push(items, None)?;
        // If one call fails, the others are cancelled.
        let cancel = move || cancelled.store(true, Ordering::Relaxed);
        let mut give_up = GiveUp { cancel, shared: &self.shared, done: false };
        let (mut values, mut timing) = (Vec::new(), Timing::default());
        for result in results {
            let (value, own) = result.await.unwrap_or(Err(Refused::Ending))?;
            values.push(value);
            timing.add(values.len() == 1, own.queued, own.computed);
        }
        give_up.done = true;
        Ok((values, timing))
    }

    /// Adds items to the queue, all or none.
    fn push(&self, items: Vec<Item>, room: Option<&Room<'_>>) -> Result<(), Refused> {
        let cost: u64 = items.iter().map(|item| item.cost).sum();
        let mut queue = self.shared.queue();
        if let Some(room) = room {
            // This number changes only while the queue is locked.
            let left = room.left.load(Ordering::Relaxed);
            let taken = left.min(cost);
            room.left.store(left - taken, Ordering::Relaxed);
            queue.reserved -= taken;
        } else if queue.ending {
            return Err(Refused::Ending);
        } else {
            queue.check_room(cost, self.shared.limit, &self.shared.counters)?;
        }
        queue.cost += cost;
        queue.items.extend(items);
        drop(queue);
        self.shared.wake.notify_one();
        Ok(())
    }

    /// Accepts no more items; those waiting are still computed.
    pub(super) fn end(&self) {
        self.shared.queue().ending = true;
        self.shared.wake.notify_one();
    }

    /// Waits until all items are computed; call [`Scheduler::end`] first.
    pub(super) fn join(&self) {
        let engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(engine) = engine {
            // The thread catches every panic of its work.
            let _ = engine.join();
        }
    }
}

/// The engine thread.
fn run(shared: &Shared) {
    while let Some(batch) = next_batch(shared) {
        let begin = Instant::now();
        match batch {
            Batch::Call(call) => call(),
            Batch::Texts(texts) => encode(shared, texts, begin),
        }
        shared.counters.batches.fetch_add(1, Ordering::Relaxed);
        shared.counters.busy_micros.fetch_add(begin.elapsed().as_micros() as u64, Ordering::Relaxed);
    }
}

/// A text of a batch: text `index` of its request, which waits since `since`.
struct Text {
    request: Arc<Request>,
    index: usize,
    ids: Vec<u32>,
    since: Instant,
}

/// What the engine computes at a time.
enum Batch {
    Call(Call),
    Texts(Vec<Text>),
}

/// Waits for work and takes a batch; `None` when the service ends and nothing is left.
fn next_batch(shared: &Shared) -> Option<Batch> {
    let mut queue = shared.queue();
    loop {
        queue.drop_cancelled(&shared.counters);
        if !queue.items.is_empty() {
            return take_batch(&mut queue);
        }
        if queue.ending && queue.reserved == 0 {
            return None;
        }
        queue = shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
    }
}

/// Takes the cheapest item, or the oldest if it has waited longer than [`LONGEST_WAIT`]; and with a text, cheapest first, the texts that can be computed
/// in the same batch.
fn take_batch(queue: &mut Queue) -> Option<Batch> {
    let oldest = queue.items.iter().enumerate().min_by_key(|(_, item)| item.since)?;
    let first = if oldest.1.since.elapsed() > LONGEST_WAIT {
        oldest.0
    } else {
        queue.items.iter().enumerate().min_by_key(|(_, item)| (item.cost, item.since))?.0
    };
    let item = queue.items.remove(first)?;
    queue.cost -= item.cost;
    let since = item.since;
    let (request, index, ids) = match item.work {
        Work::Call(call, _) => return Some(Batch::Call(call)),
        Work::Text { request, index, ids } => (request, index, ids),
    };
    let mut tokens = ids.len();
    let mut texts = vec![Text { request, index, ids, since }];
    let mut order: Vec<(u64, Instant, usize)> =
        queue.items.iter().enumerate().map(|(at, item)| (item.cost, item.since, at)).collect();
    order.sort_unstable();
    let mut taken = Vec::new();
    for (_, _, at) in order {
        let Work::Text { request, ids, .. } = &queue.items[at].work else { continue };
        let of = &texts[0].request;
        // All texts of a call of the engine have the same model and the same options of dense vectors.
        let form = |wanted: &Wanted| (wanted.dimensions, wanted.normalize, wanted.prompt_tokens);
        if !Arc::ptr_eq(&request.model, &of.model) || form(&request.wanted) != form(&of.wanted) {
            continue;
        }
        if tokens + ids.len() > BATCH_TOKENS {
            break;
        }
        tokens += ids.len();
        taken.push(at);
    }
    // Removed from the back, so that the remaining indices stay valid.
    taken.sort_unstable();
    for at in taken.into_iter().rev() {
        if let Some(item) = queue.items.remove(at) {
            queue.cost -= item.cost;
            if let Work::Text { request, index, ids } = item.work {
                texts.push(Text { request, index, ids, since: item.since });
            }
        }
    }
    Some(Batch::Texts(texts))
}

/// Computes a batch and sends each request its results.
fn encode(shared: &Shared, texts: Vec<Text>, begin: Instant) {
    let outcome = encode_together(&texts);
    if texts.len() > 1 && !matches!(outcome, Some(Ok(_))) {
        // If the batch fails, each text is computed alone, so that only the request with the bad text fails. Requests that have failed
        // already are skipped.
        for text in texts.into_iter().filter(|text| !text.request.cancelled.load(Ordering::Relaxed)) {
            let outcome = encode_together(std::slice::from_ref(&text));
            finish(shared, vec![text], outcome, begin);
        }
        return;
    }
    finish(shared, texts, outcome, begin);
}

/// Computes the texts in one call of the engine; `None` if it panicked.
fn encode_together(texts: &[Text]) -> Option<Result<Vec<Embedding>, Error>> {
    let union = texts.iter().fold(Modes { dense: false, sparse: false, colbert: false }, |union, text| {
        let modes = text.request.wanted.modes;
        Modes {
            dense: union.dense || modes.dense,
            sparse: union.sparse || modes.sparse,
            colbert: union.colbert || modes.colbert,
        }
    });
    let request = &texts[0].request;
    let Wanted { dimensions, normalize, prompt_tokens, .. } = request.wanted;
    let options = EncodeOptions { modes: union, dimensions, normalize, prompt_tokens, ..EncodeOptions::default() };
    let ids: Vec<&[u32]> = texts.iter().map(|text| text.ids.as_slice()).collect();
    catch_unwind(AssertUnwindSafe(|| request.model.encode_ids(&ids, &options))).ok()
}

/// Gives the results of a batch to the requests of its texts, or fails those requests. A request is answered when its last text is computed.
fn finish(shared: &Shared, texts: Vec<Text>, outcome: Option<Result<Vec<Embedding>, Error>>, begin: Instant) {
    let counters = &shared.counters;
    let embeddings = match outcome {
        Some(Ok(embeddings)) => embeddings,
        Some(Err(error)) => {
            let mut error = Some(error);
            for text in &texts {
                let engine = |error: Error| Refused::Engine(error.at_input(|_| text.index));
                text.request.fail(error.take().map_or(Refused::Panicked, engine));
            }
            return;
        }
        None => {
            counters.panics.fetch_add(1, Ordering::Relaxed);
            texts.iter().for_each(|text| text.request.fail(Refused::Panicked));
            return;
        }
    };
    let computed = begin.elapsed();
    let tokens: usize = texts.iter().map(|text| text.ids.len()).sum();
    counters.batch_tokens.fetch_add(tokens as u64, Ordering::Relaxed);
    counters.batch_sizes.observe(tokens as f64);
    counters.texts.fetch_add(texts.len() as u64, Ordering::Relaxed);
    for (text, mut embedding) in texts.into_iter().zip(embeddings) {
        let modes = text.request.wanted.modes;
        // Representations that only other texts of the batch asked for are dropped.
        embedding.dense = embedding.dense.filter(|_| modes.dense);
        embedding.lexical = embedding.lexical.filter(|_| modes.sparse);
        embedding.colbert = embedding.colbert.filter(|_| modes.colbert);
        let mut progress = text.request.progress();
        progress.results[text.index] = Some(embedding);
        progress.left -= 1;
        // A batch with several texts of the request counts once.
        if progress.batch != Some(begin) {
            let is_first = progress.batch.replace(begin).is_none();
            progress.timing.add(is_first, begin - text.since, computed);
        }
        if progress.left == 0 {
            let results = std::mem::take(&mut progress.results).into_iter().flatten().collect();
            let timing = progress.timing;
            if let Some(reply) = progress.reply.take() {
                let _ = reply.send(Ok((results, timing)));
            }
        }
    }
}

#[cfg(test)]
mod tests;
