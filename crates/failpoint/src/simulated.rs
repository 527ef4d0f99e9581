//! A thread in which time, chance and the death of processes are a simulation's: what roles ask for the
//! time of day and for random bytes looks here first. Like failpoints, nothing of it is in optimised
//! builds unless the feature `failpoints` is on.

use std::{cell::RefCell, rc::Rc};

/// Whether any of this is compiled in.
pub const COMPILED_IN: bool = cfg!(any(debug_assertions, feature = "failpoints"));

/// What a simulated thread has instead of the machine's.
pub trait World {
    /// Unix nanoseconds.
    fn now_ns(&self) -> i64;
    /// Random bytes.
    fn fill(&self, bytes: &mut [u8]);
    /// A failpoint is passed. May end the task that passes it, by unwinding.
    fn hit(&self, name: &'static str);
}

thread_local! {
    static WORLD: RefCell<Option<Rc<dyn World>>> = const { RefCell::new(None) };
}

/// Ends the simulation of this thread when dropped.
#[must_use]
#[derive(Debug)]
pub struct Simulated(());

impl Drop for Simulated {
    fn drop(&mut self) {
        WORLD.with_borrow_mut(|world| *world = None);
    }
}

/// This thread is simulated from now on.
pub fn enter(world: Rc<dyn World>) -> Simulated {
    WORLD.with_borrow_mut(|now| *now = Some(world));
    Simulated(())
}

fn world() -> Option<Rc<dyn World>> {
    if COMPILED_IN { WORLD.with_borrow(Clone::clone) } else { None }
}

/// The simulation's time, Unix nanoseconds.
pub fn now_ns() -> Option<i64> {
    world().map(|world| world.now_ns())
}

/// Fills with the simulation's random bytes, if there is one.
pub fn fill(bytes: &mut [u8]) -> bool {
    world().map(|world| world.fill(bytes)).is_some()
}

pub(crate) fn hit(name: &'static str) {
    if let Some(world) = world() {
        world.hit(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    struct Fixed(Cell<u32>);

    impl World for Fixed {
        fn now_ns(&self) -> i64 {
            7
        }
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(9);
        }
        fn hit(&self, _: &'static str) {
            self.0.set(self.0.get() + 1);
        }
    }

    #[test]
    fn a_thread_is_simulated_until_the_end() {
        let world = Rc::new(Fixed(Cell::new(0)));
        let simulated = enter(world.clone());
        let mut bytes = [0; 2];
        assert!(fill(&mut bytes) && bytes == [9, 9] && now_ns() == Some(7));
        crate::hit("a.place");
        assert_eq!(world.0.get(), 1);
        assert_eq!(std::thread::spawn(now_ns).join().unwrap(), None, "others are not");
        drop(simulated);
        assert!(!fill(&mut bytes) && now_ns().is_none());
    }
}
