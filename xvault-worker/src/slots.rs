//! How many jobs run at a time, whichever queue they come from.
//!
//! A message stays in its queue until there is a slot for it: [`Gate`] asks whether there is one without taking it.

use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tower::{Layer, Service};

/// The slots of a worker. Clones are the same slots.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    free: Arc<Semaphore>,
    freed: Arc<Notify>,
}

/// A slot that is taken; free again on drop.
#[derive(Debug)]
pub(crate) struct Slot {
    permit: Option<OwnedSemaphorePermit>,
    freed: Arc<Notify>,
}

impl Slots {
    /// So many, all free.
    pub(crate) fn new(count: NonZeroUsize) -> Self {
        let free = Semaphore::new(count.get().min(Semaphore::MAX_PERMITS));
        Self { free: Arc::new(free), freed: Arc::new(Notify::new()) }
    }

    /// Takes a slot, in the order of asking. `None` never comes: slots are not closed.
    pub(crate) async fn take(&self) -> Option<Slot> {
        let permit = self.free.clone().acquire_owned().await.ok()?;
        Some(Slot { permit: Some(permit), freed: self.freed.clone() })
    }

    fn is_one_free(&self) -> bool {
        self.free.available_permits() > 0
    }

    /// Ready when a slot was freed after this call.
    fn freed(&self) -> BoxFuture<'static, ()> {
        let mut freed = Box::pin(self.freed.clone().notified_owned());
        // From now on, not from when it is polled first.
        freed.as_mut().enable();
        freed
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        drop(self.permit.take());
        self.freed.notify_waiters();
    }
}

/// Lets a service be ready only while a slot is free.
///
/// Several services share the slots, and none reserves any, neither while it is idle, as tower's own concurrency limit
/// does, nor while it waits: the handler takes the slot itself, and may find that somebody was faster.
#[derive(Debug, Clone)]
pub(crate) struct GateLayer(pub(crate) Slots);

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate { inner, slots: self.0.clone(), wait: None }
    }
}

/// The service of a [`GateLayer`].
pub(crate) struct Gate<S> {
    inner: S,
    slots: Slots,
    wait: Option<BoxFuture<'static, ()>>,
}

impl<S> Gate<S> {
    fn poll_slot(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let wait = self.wait.get_or_insert_with(|| self.slots.freed());
            if self.slots.is_one_free() {
                self.wait = None;
                return Poll::Ready(());
            }
            ready!(Pin::new(wait).poll(cx));
            self.wait = None;
        }
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
    use std::convert::Infallible;
    use std::time::Duration;
    use tower::{ServiceExt, service_fn};

    fn gate(slots: &Slots) -> Gate<impl Service<(), Response = (), Error = Infallible> + use<>> {
        GateLayer(slots.clone()).layer(service_fn(|()| async { Ok::<_, Infallible>(()) }))
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_with_a_free_slot_and_takes_none() {
        let slots = Slots::new(NonZeroUsize::MIN);
        let (mut one, mut two) = (gate(&slots), gate(&slots));
        one.ready().await.unwrap();
        two.ready().await.unwrap();
        assert!(slots.is_one_free());
        let taken = slots.take().await.unwrap();
        assert!(tokio::time::timeout(Duration::from_secs(60), two.ready()).await.is_err());
        drop(taken);
        two.ready().await.unwrap();
        assert!(slots.is_one_free());
    }

    #[tokio::test(start_paused = true)]
    async fn gates_that_wait_together_all_open_and_none_keeps_the_slot_from_the_others() {
        let slots = Slots::new(NonZeroUsize::MIN);
        let taken = slots.take().await.unwrap();
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let mut gate = gate(&slots);
                tokio::spawn(async move { gate.ready().await.map(drop) })
            })
            .collect();
        // One that is never polled again holds nobody up.
        let mut stalled = gate(&slots);
        assert!(futures::poll!(std::pin::pin!(stalled.ready())).is_pending());
        tokio::task::yield_now().await;
        drop(taken);
        let all = async {
            for gate in waiting {
                gate.await.unwrap().unwrap();
            }
            slots.take().await.unwrap()
        };
        tokio::time::timeout(Duration::from_secs(60), all).await.expect("nobody waits for ever");
    }
}
