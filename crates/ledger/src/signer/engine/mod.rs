//! The books over any database that is a [`store::Store`]: requests queue up, a task takes whatever
//! is there as one batch, and the batch becomes one transaction.

mod batch;
mod books;
mod deliveries;
mod due;
mod lane;
mod lookup;
mod pruning;
mod pulse;
mod recent;
pub mod store;

pub use books::Books;
