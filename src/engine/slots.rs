//! Values under small stable keys that are never mistaken for an earlier value's.

use std::convert::Infallible;

/// Where a value is, and which of the values that were ever there it is.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Key {
    pub(super) index: u32,
    generation: u32,
}

/// A vector whose places are reused, each use with a new generation.
#[derive(Debug)]
pub(super) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Slots<T> {
    pub(super) const fn new() -> Slots<T> {
        Slots {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// How many places there are: every index is below this.
    pub(super) fn places(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Puts in the value that `make` gives for its own key.
    pub(super) fn insert_with<E>(
        &mut self,
        make: impl FnOnce(Key) -> Result<T, E>,
    ) -> Result<Key, E> {
        let index = self.free.last().copied().unwrap_or(self.slots.len() as u32);
        if index as usize == self.slots.len() {
            self.slots.push(Slot {
                generation: 0,
                value: None,
            });
            self.free.push(index);
        }
        let slot = &mut self.slots[index as usize];
        let key = Key {
            index,
            generation: slot.generation,
        };
        slot.value = Some(make(key)?);
        self.free.pop();
        Ok(key)
    }

    /// Puts a value in.
    pub(super) fn insert(&mut self, value: T) -> Key {
        match self.insert_with(|_| Ok::<T, Infallible>(value)) {
            Ok(key) => key,
        }
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.slots
            .get_mut(key.index as usize)
            .filter(|slot| slot.generation == key.generation)
            .and_then(|slot| slot.value.as_mut())
    }

    /// The value that is at this place now, and its key.
    #[inline]
    pub(super) fn at_mut(&mut self, index: u32) -> Option<(Key, &mut T)> {
        let slot = self.slots.get_mut(index as usize)?;
        let key = Key {
            index,
            generation: slot.generation,
        };
        slot.value.as_mut().map(|value| (key, value))
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.index);
        Some(value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| slot.value.as_ref())
    }
}

impl<T> Default for Slots<T> {
    fn default() -> Slots<T> {
        Slots::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_place_has_a_new_key() {
        let mut slots = Slots::new();
        let first = slots.insert('a');
        assert_eq!(slots.remove(first), Some('a'));
        let second = slots.insert('b');
        assert_eq!(first.index, second.index);
        assert_eq!(slots.get_mut(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get_mut(second), Some(&mut 'b'));
        assert_eq!((slots.len(), slots.places()), (1, 1));
    }

    #[test]
    fn a_failed_insert_leaves_the_place_free() {
        let mut slots = Slots::<char>::new();
        assert_eq!(slots.insert_with(|_| Err("no")), Err("no"));
        assert_eq!(slots.len(), 0);
        slots.insert('a');
        assert_eq!((slots.len(), slots.places()), (1, 1));
    }
}
