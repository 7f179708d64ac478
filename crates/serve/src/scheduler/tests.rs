use std::sync::mpsc;

use super::*;
use crate::memory::Budget;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap()
}

/// A call that occupies the engine until something is sent through the sender.
fn hold() -> (mpsc::Sender<()>, impl FnOnce() -> Result<(), Error> + Send) {
    let (go, wait) = mpsc::channel();
    let call = move || {
        let _ = wait.recv();
        Ok(())
    };
    (go, call)
}

#[test]
fn a_text_that_fails_does_not_fail_the_other_requests_of_its_batch() {
    let scheduler = Scheduler::new(1 << 20).unwrap();
    let model = Arc::new(Model::starter().unwrap());
    let none = model.info().vocabulary as u32 + 5;
    runtime().block_on(async {
        let (go, call) = hold();
        let encode = |ids: Vec<u32>| {
            let held = Held::new(&Budget::new(0));
            scheduler.encode(Arc::clone(&model), vec![ids], Modes::DENSE.into(), held, None)
        };
        // Both texts wait while the engine is occupied, and are then computed in one batch.
        let release = async {
            while scheduler.depth().0 < 2 {
                tokio::task::yield_now().await;
            }
            go.send(()).unwrap();
        };
        let (held, good, bad, ()) =
            tokio::join!(scheduler.calls(vec![(1, call)]), encode(vec![0, 5, 2]), encode(vec![0, none, 2]), release);
        held.unwrap();
        assert!(matches!(bad, Err(Refused::Engine(_) | Refused::Panicked)), "{bad:?}");
        let alone = model.encode_ids(&[[0, 5, 2].as_slice()], &EncodeOptions::default()).unwrap();
        assert_eq!(good.unwrap().0[0].dense, alone[0].dense);
    });
}

#[test]
fn a_panic_is_counted_and_the_engine_goes_on() {
    let scheduler = Scheduler::new(1 << 20).unwrap();
    runtime().block_on(async {
        let calls = [true, false].map(|fails| {
            let call = move || -> Result<(), Error> {
                assert!(!fails, "as a defect would");
                Ok(())
            };
            (1, call)
        });
        assert!(matches!(scheduler.calls(calls.into()).await, Err(Refused::Panicked)));
        let calls = [2, 3].map(|value| (1, move || Ok(value)));
        assert_eq!(scheduler.calls(calls.into()).await.unwrap().0, [2, 3]);
    });
    assert_eq!(scheduler.counters().panics.load(Ordering::Relaxed), 1);
    assert_eq!(scheduler.depth(), (0, 0));
}

#[test]
fn a_request_waits_until_its_first_batch_and_each_batch_counts_once() {
    let model = Arc::new(Model::starter().unwrap());
    let embeddings = model.encode_ids(&[[0, 5, 2].as_slice(); 3], &EncodeOptions::default()).unwrap();
    let shared = Shared { queue: Mutex::default(), wake: Condvar::new(), limit: 1, counters: Counters::default() };
    let (reply, mut result) = oneshot::channel();
    let (results, timing, reply) = (vec![None; 3], Timing::default(), Some(reply));
    let state = Mutex::new(Progress { results, left: 3, timing, batch: None, reply });
    let (cancelled, held) = (false.into(), Held::new(&Budget::new(0)));
    let request = Arc::new(Request { model, wanted: Modes::DENSE.into(), cancelled, state, _held: held });
    let (s, since) = (Duration::from_secs, Instant::now() - Duration::from_secs(1000));
    let text = |index| Text { request: Arc::clone(&request), index, ids: vec![], since };
    finish(&shared, vec![text(0), text(1)], Some(Ok(embeddings[..2].to_vec())), since + s(100));
    finish(&shared, vec![text(2)], Some(Ok(embeddings[2..].to_vec())), since + s(600));
    let Timing { queued, computed } = result.try_recv().unwrap().unwrap().1;
    // The batches began 900 and 400 s ago. If the first, which has two texts, counted for each of them, the sum would be 2,200 s.
    assert!(queued == s(100) && (s(1300)..s(2100)).contains(&computed), "{queued:?} {computed:?}");
}

#[test]
fn the_estimated_time_follows_from_the_measured_speed() {
    let counters = Counters::default();
    assert_eq!(counters.time_for(1000), Duration::ZERO, "nothing is known yet");
    counters.batch_tokens.store(500, Ordering::Relaxed);
    counters.busy_micros.store(1_000_000, Ordering::Relaxed);
    assert_eq!(counters.time_for(1000), Duration::from_secs(2));
}
