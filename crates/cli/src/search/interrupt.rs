//! Ctrl-C during a run that keeps what it has done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the run is to end: true from the first interrupt, or request to end, on. A second one ends the program at once.
#[derive(Clone, Default)]
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens from now on. Where that is not possible, an interrupt ends the program, as ever.
    pub(super) fn listen() -> Interrupt {
        let interrupt = Interrupt::default();
        #[cfg(unix)]
        interrupt.listen_to_signals();
        interrupt
    }

    #[cfg(unix)]
    fn listen_to_signals(&self) {
        use signal_hook::consts::{SIGINT, SIGTERM};
        use signal_hook::low_level::emulate_default_handler;
        let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]) else { return };
        let asked = self.clone();
        std::thread::spawn(move || {
            for signal in signals.forever() {
                if asked.0.swap(true, Ordering::Relaxed) {
                    let _ = emulate_default_handler(signal);
                }
                say!("trivec: ending: what was read is committed first; interrupt again to end at once");
            }
        });
    }

    pub(super) fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
