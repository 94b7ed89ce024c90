//! "Is a slot free?", asked without taking one: a message stays in its queue until it can be worked on.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use tokio::sync::Semaphore;
use tower::{Layer, Service};

/// Lets a service be ready only while `slots` has a free one.
///
/// Several services share the slots, and none reserves any while it is idle, as tower's own concurrency limit does: the
/// handler takes the slot itself, and may find that somebody was faster.
#[derive(Debug, Clone)]
pub(crate) struct GateLayer(pub(crate) Arc<Semaphore>);

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate { inner, slots: self.0.clone(), wait: None }
    }
}

/// The service of a [`GateLayer`].
pub(crate) struct Gate<S> {
    inner: S,
    slots: Arc<Semaphore>,
    wait: Option<BoxFuture<'static, ()>>,
}

impl<S> Gate<S> {
    fn poll_slot(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.wait.is_some() || self.slots.available_permits() == 0 {
            let slots = self.slots.clone();
            let wait = self.wait.get_or_insert_with(|| Box::pin(async move { drop(slots.acquire().await) }));
            ready!(Pin::new(wait).poll(cx));
            self.wait = None;
        }
        Poll::Ready(())
    }
}

impl<S: Service<R>, R> Service<R> for Gate<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        ready!(self.poll_slot(cx));
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> S::Future {
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tower::{ServiceExt, service_fn};

    #[tokio::test(start_paused = true)]
    async fn it_opens_with_a_free_slot_and_takes_none() {
        let slots = Arc::new(Semaphore::new(1));
        let inner = service_fn(|()| async { Ok::<_, std::convert::Infallible>(()) });
        let (mut one, mut two) =
            (GateLayer(slots.clone()).layer(inner), GateLayer(slots.clone()).layer(inner));
        one.ready().await.unwrap();
        two.ready().await.unwrap();
        assert_eq!(slots.available_permits(), 1);
        let taken = slots.clone().acquire_owned().await.unwrap();
        let shut = tokio::time::timeout(Duration::from_secs(60), two.ready()).await;
        assert!(shut.is_err());
        drop(taken);
        two.ready().await.unwrap();
        assert_eq!(slots.available_permits(), 1);
    }
}
