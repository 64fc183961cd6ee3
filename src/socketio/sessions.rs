//! How many sessions there are: a session of polling is no connection, and would be bounded by
//! nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The sessions that there are, of at most so many.
#[derive(Clone, Debug)]
pub(super) struct Sessions {
    max: usize,
    count: Arc<AtomicUsize>,
}

/// One session's place. It is kept in the extensions of the request that opened the session, which
/// the session keeps, and is given back with the last copy.
#[derive(Clone, Debug)]
pub(super) struct SessionPlace {
    _taken: Arc<Taken>,
}

#[derive(Debug)]
struct Taken(Arc<AtomicUsize>);

impl Sessions {
    pub(super) fn new(max: usize) -> Sessions {
        Sessions {
            max,
            count: Arc::default(),
        }
    }

    /// A place for one more, if there is one.
    pub(super) fn place(&self) -> Option<SessionPlace> {
        let taken = Taken(Arc::clone(&self.count));
        let before = self.count.fetch_add(1, Ordering::Relaxed);
        (before < self.max).then(|| SessionPlace {
            _taken: Arc::new(taken),
        })
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
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
}
