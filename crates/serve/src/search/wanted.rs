//! Runs jobs that can end early when their client has disconnected.

use trivec::Cancel;

use crate::app::App;
use crate::error::Result;

/// Sets the cancel flag when it is dropped.
struct SetWhenDropped(Cancel);

impl Drop for SetWhenDropped {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Runs a job as [`App::beside`] does. The flag that the job gets is set when the returned future is dropped, which happens when the client
/// disconnects.
pub(crate) async fn beside_while_wanted<R: Send + 'static>(
    app: &App,
    job: impl FnOnce(Cancel) -> R + Send + 'static,
) -> Result<R> {
    let flag = SetWhenDropped(Cancel::new());
    let own = flag.0.clone();
    app.beside(move || job(own)).await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::mpsc::unbounded_channel;
    use trivec::Model;

    use super::*;
    use crate::names::Names;
    use crate::options::Limits;

    fn app() -> Arc<App> {
        let model = Model::starter().unwrap();
        let names = Names::new(Vec::new(), false, &model);
        Arc::new(App::new(model, names, None, Limits::default(), Vec::new(), None).unwrap())
    }

    #[test]
    fn a_jobs_flag_is_set_when_its_client_disconnects() {
        let runtime = crate::runtime().unwrap();
        let app = app();
        runtime.block_on(async {
            let (tell, mut told) = unbounded_channel();
            let own = Arc::clone(&app);
            let waiting = tokio::spawn(async move {
                let job = move |cancel: Cancel| {
                    tell.send("begun").unwrap();
                    while !cancel.is_set() {
                        std::thread::yield_now();
                    }
                    tell.send("ended").unwrap();
                };
                beside_while_wanted(&own, job).await
            });
            assert_eq!(told.recv().await, Some("begun"));
            waiting.abort();
            assert_eq!(told.recv().await, Some("ended"));
        });
    }

    #[test]
    fn a_jobs_flag_is_not_set_while_its_client_waits() {
        let runtime = crate::runtime().unwrap();
        let app = app();
        let is_set = runtime.block_on(beside_while_wanted(&app, |cancel| cancel.is_set()));
        assert!(!is_set.unwrap());
    }
}
