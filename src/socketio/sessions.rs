//! Which sessions there are: how many, since a session of polling is no connection and would be
//! bounded by nothing else, and under which id a client knows its own.
//!
//! The engine gives a session and its sockets the same id, and sockets' ids are told to other
//! clients, by applications. Who polls with a session's id has that session: so a client is told
//! another, that it alone knows.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use socketioxide::adapter::Adapter;
use socketioxide::socket::{Sid, Socket};

/// The sessions that there are, of at most so many.
#[derive(Clone, Debug)]
pub(super) struct Sessions {
    max: usize,
    open: Arc<Open>,
}

#[derive(Debug, Default)]
struct Open {
    count: AtomicUsize,
    /// The engine's ids of sessions that have polled, by those that their clients know.
    polled: Mutex<HashMap<String, (String, Weak<Taken>)>>,
}

/// One session's place. It is kept in the extensions of the request that opened the session, which
/// the session keeps, and is given back with the last copy.
#[derive(Clone, Debug)]
pub(super) struct SessionPlace {
    taken: Arc<Taken>,
}

#[derive(Debug)]
struct Taken {
    open: Arc<Open>,
    /// The id that the client knows, once there is one.
    told: OnceLock<String>,
    /// The client broke the rules: its session is to end.
    is_ending: AtomicBool,
}

impl Sessions {
    pub(super) fn new(max: usize) -> Sessions {
        Sessions {
            max,
            open: Arc::default(),
        }
    }

    /// A place for one more, if there is one.
    pub(super) fn place(&self) -> Option<SessionPlace> {
        let taken = Taken {
            open: Arc::clone(&self.open),
            told: OnceLock::new(),
            is_ending: AtomicBool::new(false),
        };
        let before = self.open.count.fetch_add(1, Ordering::Relaxed);
        (before < self.max).then(|| SessionPlace {
            taken: Arc::new(taken),
        })
    }

    pub(super) fn count(&self) -> usize {
        self.open.count.load(Ordering::Relaxed)
    }

    /// The session that a client knows by this: the engine's id, and its place.
    pub(super) fn find(&self, told: &str) -> Option<(String, SessionPlace)> {
        let polled = self.open.polled();
        let (engine_id, taken) = polled.get(told)?;
        let taken = taken.upgrade()?;
        Some((engine_id.clone(), SessionPlace { taken }))
    }
}

impl SessionPlace {
    /// The id that the client of this session, which the engine has opened under `engine_id`, is
    /// to be told.
    pub(super) fn tell(&self, engine_id: &str) -> &str {
        let Taken { open, told, .. } = &*self.taken;
        told.get_or_init(|| {
            let told = Sid::new().to_string();
            let known = (engine_id.to_owned(), Arc::downgrade(&self.taken));
            open.polled().insert(told.clone(), known);
            told
        })
    }

    /// Ends the session of a socket, as soon as its client is heard again.
    pub(super) fn end_of<A: Adapter>(socket: &Socket<A>) {
        if let Some(place) = socket.req_parts().extensions.get::<SessionPlace>() {
            place.taken.is_ending.store(true, Ordering::Relaxed);
        }
    }

    /// The client broke the rules: nothing more is read from it.
    pub(super) fn is_ending(&self) -> bool {
        self.taken.is_ending.load(Ordering::Relaxed)
    }
}

impl Open {
    /// A poisoned lock is taken all the same: the map is whole between any two statements.
    fn polled(&self) -> MutexGuard<'_, HashMap<String, (String, Weak<Taken>)>> {
        self.polled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.open.count.fetch_sub(1, Ordering::Relaxed);
        if let Some(told) = self.told.get() {
            self.open.polled().remove(told);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_given_back_with_the_last_copy() {
        let sessions = Sessions::new(1);
        let place = sessions.place();
        let copy = place.clone();
        assert!(place.is_some());
        assert!(sessions.place().is_none());
        drop(place);
        assert!(sessions.place().is_none());
        drop(copy);
        assert_eq!(sessions.count(), 0);
        assert!(sessions.place().is_some());
    }

    #[test]
    fn a_client_is_told_another_id_that_ends_with_its_session() {
        let sessions = Sessions::new(2);
        let place = sessions.place().unwrap();
        let told = place.tell("engine's").to_owned();
        assert_eq!(place.tell("engine's"), told);
        assert_ne!(sessions.place().unwrap().tell("other"), told);
        let engine_id = |told| sessions.find(told).map(|(engine_id, _)| engine_id);
        assert_eq!(engine_id(&told).as_deref(), Some("engine's"));
        assert_eq!(engine_id("engine's"), None);
        drop(place);
        assert_eq!(engine_id(&told), None);
    }
}
