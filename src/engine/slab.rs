//! A slab: values with small, stable keys. A reused place gets a different key.

/// The place of a value, and the generation of that place.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct ConnectionKey {
    pub(super) index: u32,
    generation: u32,
}

/// A vector with reusable places. Each use of a place has a new generation.
#[derive(Debug)]
pub(super) struct Slab<T> {
    slab: Vec<Slot<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Slab<T> {
    /// Number of values.
    pub(super) fn len(&self) -> usize {
        self.slab.len() - self.free.len()
    }

    /// Number of places. Every index is less than this number.
    pub(super) fn places(&self) -> u32 {
        self.slab.len() as u32
    }

    /// The key of the value that is inserted next.
    pub(super) fn next_key(&self) -> ConnectionKey {
        let index = self.free.last().copied().unwrap_or(self.places());
        let slot = self.slab.get(index as usize);
        ConnectionKey {
            index,
            generation: slot.map_or(0, |slot| slot.generation),
        }
    }

    /// Inserts a value.
    pub(super) fn insert(&mut self, value: T) -> ConnectionKey {
        let (key, value) = (self.next_key(), Some(value));
        match self.free.pop() {
            Some(index) => self.slab[index as usize].value = value,
            None => self.slab.push(Slot {
                generation: key.generation,
                value,
            }),
        }
        key
    }

    pub(super) fn get_mut(&mut self, key: ConnectionKey) -> Option<&mut T> {
        self.slab
            .get_mut(key.index as usize)
            .filter(|slot| slot.generation == key.generation)
            .and_then(|slot| slot.value.as_mut())
    }

    /// The current value at this place, and its key.
    #[inline]
    pub(super) fn at_mut(&mut self, index: u32) -> Option<(ConnectionKey, &mut T)> {
        let slot = self.slab.get_mut(index as usize)?;
        let key = ConnectionKey {
            index,
            generation: slot.generation,
        };
        slot.value.as_mut().map(|value| (key, value))
    }

    pub(super) fn remove(&mut self, key: ConnectionKey) -> Option<T> {
        let slot = self.slab.get_mut(key.index as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.index);
        Some(value)
    }

    /// The values at `place` and after it, each with its place.
    pub(super) fn iter_from(&self, place: u32) -> impl Iterator<Item = (u32, &T)> {
        let places = self.slab.get(place as usize..).unwrap_or_default();
        (place..)
            .zip(places)
            .filter_map(|(place, slot)| Some((place, slot.value.as_ref()?)))
    }
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab {
            slab: Vec::new(),
            free: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_place_has_a_new_key() {
        let mut slab = Slab::default();
        let first = slab.insert('a');
        assert_eq!(slab.remove(first), Some('a'));
        let next = slab.next_key();
        let second = slab.insert('b');
        assert_eq!(second, next);
        assert_eq!(first.index, second.index);
        assert_eq!(slab.get_mut(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get_mut(second), Some(&mut 'b'));
        assert_eq!((slab.len(), slab.places()), (1, 1));
    }
}
