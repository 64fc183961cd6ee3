//! The namespaces of a service, and the registration of their handlers.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, RwLock};

use serde_json::Value;

use super::errors::DisconnectReason;
use super::members::Members;
use super::socket::{
    Admit, Connected, Disconnected, Elsewhere, Event, EventHandler, Handlers, Inner, Socket,
};
use crate::lock::{read, write};

/// The namespaces of a service, by path.
#[derive(Default)]
pub(super) struct Namespaces {
    namespaces: RwLock<HashMap<Box<str>, Arc<Inner>>>,
    /// Set before the first namespace exists.
    pub(super) elsewhere: OnceLock<Elsewhere>,
}

/// A namespace. Use it to register handlers. A handler begins on the worker that received its
/// packet; while the handler waits, other handlers run. The handlers of one client's events begin
/// in the order of the events. At most 16 handlers of one session run at the same time.
#[derive(Clone, Debug)]
pub struct Namespace(pub(super) Arc<Inner>);

impl Namespaces {
    pub(super) fn get(&self, path: &str) -> Option<Arc<Inner>> {
        read(&self.namespaces).get(path).cloned()
    }

    pub(super) fn get_or_insert(&self, path: &str) -> Arc<Inner> {
        let mut namespaces = write(&self.namespaces);
        let namespace = namespaces.entry(path.into()).or_insert_with(|| {
            Arc::new(Inner {
                path: path.into(),
                elsewhere: self.elsewhere.get().cloned(),
                handlers: RwLock::default(),
                members: Members::default(),
            })
        });
        Arc::clone(namespace)
    }
}

/// The future that a handler returns, for example the future of an `async` closure.
pub trait HandlerFuture<T = ()>: Future<Output = T> + Send + 'static {}

impl<T, F: Future<Output = T> + Send + 'static> HandlerFuture<T> for F {}

impl Namespace {
    /// Sets the handler that decides by a client's auth payload (`Null` if the client sent no
    /// payload) whether the client may join. `Err` is the message of the refusal. Default: every
    /// client may join.
    pub fn admitting<F: HandlerFuture<Result<(), String>>>(
        self,
        handler: impl Fn(Value) -> F + Send + Sync + 'static,
    ) -> Namespace {
        let admit: Admit = Arc::new(move |auth| Box::pin(handler(auth)));
        self.change(|handlers| handlers.admit = Some(admit))
    }

    /// Sets the handler that is called after a client has joined, with the client's auth payload
    /// (`Null` if the client sent no payload).
    pub fn on_connect<F: HandlerFuture>(
        self,
        handler: impl Fn(Socket, Value) -> F + Send + Sync + 'static,
    ) -> Namespace {
        let connected: Connected = Arc::new(move |socket, auth| Box::pin(handler(socket, auth)));
        self.change(|handlers| handlers.connected = Some(connected))
    }

    /// Sets the handler that is called after a client has left the namespace.
    pub fn on_disconnect<F: HandlerFuture>(
        self,
        handler: impl Fn(Socket, DisconnectReason) -> F + Send + Sync + 'static,
    ) -> Namespace {
        let disconnected: Disconnected =
            Arc::new(move |socket, why| Box::pin(handler(socket, why)));
        self.change(|handlers| handlers.disconnected = Some(disconnected))
    }

    /// Sets the handler for events with this name.
    pub fn on<F: HandlerFuture>(
        self,
        event: &str,
        handler: impl Fn(Event) -> F + Send + Sync + 'static,
    ) -> Namespace {
        let handler: EventHandler = Arc::new(move |event| Box::pin(handler(event)));
        self.change(|handlers| drop(handlers.events.insert(event.into(), handler)))
    }

    /// Sets the handler for events whose name has no handler.
    pub fn on_any<F: HandlerFuture>(
        self,
        handler: impl Fn(Event) -> F + Send + Sync + 'static,
    ) -> Namespace {
        let handler: EventHandler = Arc::new(move |event| Box::pin(handler(event)));
        self.change(|handlers| handlers.fallback = Some(handler))
    }

    fn change(self, change: impl FnOnce(&mut Handlers)) -> Namespace {
        change(&mut write(&self.0.handlers));
        self
    }
}
