//! The allocator of the roles' programs: their `main.rs` names this crate and has it.
//!
//! Payments, jobs and trickle allocate often and in small pieces, on one thread, and free on another. With the C
//! library's allocator that was a sixth of the processor time under load.
//!
//! It asks for no huge pages (feature `no_thp`), so that what is freed leaves the RAM. Where the system gives them unasked
//! (`/sys/kernel/mm/transparent_hugepage/enabled` is `always`), `MIMALLOC_ALLOW_THP=0` in the environment declines them,
//! for the process and those that it starts.

#[cfg(not(feature = "counted"))]
#[global_allocator]
static HEAP: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(feature = "counted")]
#[global_allocator]
static HEAP: cap::Cap<mimalloc::MiMalloc> = cap::Cap::new(mimalloc::MiMalloc, usize::MAX);

/// Says how many bytes are allocated and not freed, without what the allocator keeps for later; where they are counted
/// (feature `counted`).
pub const ALLOCATED_BYTES: Option<fn() -> usize> = allocated_bytes();

#[cfg(not(feature = "counted"))]
const fn allocated_bytes() -> Option<fn() -> usize> {
    None
}

#[cfg(feature = "counted")]
const fn allocated_bytes() -> Option<fn() -> usize> {
    Some(|| HEAP.allocated())
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_allocated_is_counted_where_it_is() {
        let Some(bytes) = super::ALLOCATED_BYTES else { return };
        let before = bytes();
        let held = vec![0_u8; 10 << 20];
        assert!(bytes() >= before + held.len(), "{} MiB are held", held.len() >> 20);
    }
}
