//! Panics of a history. A process that dies unwinds its task without one ([`std::panic::resume_unwind`], see
//! `thread`), so that whatever comes past the hook for panics is a fault of the code, whoever catches it: the
//! runtime, the network between the roles, or a role itself.

use std::{
    cell::RefCell,
    panic::{self, PanicHookInfo},
    sync::{Arc, Mutex, Once, PoisonError},
};

thread_local! {
    /// Whose panics those of this thread are.
    static HERE: RefCell<Option<Panics>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();

/// What a history notes of itself; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Panics(Arc<Mutex<Noted>>);

#[derive(Debug, Default)]
struct Noted {
    /// The step that it is at.
    step: usize,
    /// The first panic, and the step of it.
    first: Option<(usize, String)>,
}

/// Ends the watch of this thread when dropped.
#[must_use]
pub struct Watch(());

impl Drop for Watch {
    fn drop(&mut self) {
        HERE.set(None);
    }
}

impl Panics {
    /// Panics of this thread are noted here from now on.
    pub fn watch(&self) -> Watch {
        self.watch_helper();
        Watch(())
    }

    /// The same for a thread that works for this one until it ends.
    pub fn watch_helper(&self) {
        HOOK.call_once(|| {
            let others = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                // It may come while the thread's own values are gone: then there is no history.
                let here = HERE.try_with(|here| here.borrow().clone()).ok().flatten();
                match here {
                    Some(panics) => panics.note(info),
                    None => others(info),
                }
            }));
        });
        HERE.set(Some(self.clone()));
    }

    fn with<T>(&self, work: impl FnOnce(&mut Noted) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, info: &PanicHookInfo<'_>) {
        let what = info.payload_as_str().unwrap_or("no words");
        let place = info.location().map_or_else(String::new, |place| format!(" at {place}"));
        self.with(|noted| {
            let step = noted.step;
            noted.first.get_or_insert_with(|| (step, format!("a panic{place}: {what}")));
        });
    }

    /// The history is at this step.
    pub fn at_step(&self, step: usize) {
        self.with(|noted| noted.step = step);
    }

    /// The step that it is at.
    pub fn step(&self) -> usize {
        self.with(|noted| noted.step)
    }

    /// The law that nothing panics: the step, and the panic.
    pub fn none(&self) -> Result<(), (usize, String)> {
        self.with(|noted| noted.first.clone()).map_or(Ok(()), Err)
    }
}
