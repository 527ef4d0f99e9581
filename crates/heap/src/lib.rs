//! The allocator of the roles' programs: their `main.rs` names this crate and has it.
//!
//! Payments, jobs and trickle allocate often and in small pieces, on one thread, and free on another. With the C
//! library's allocator that was a sixth of a signer's and a gateway's processor time under load.
//!
//! It asks for no huge pages (feature `no_thp`): of each 64 KiB that are touched they make 2 MiB. Where the system gives
//! them unasked (`/sys/kernel/mm/transparent_hugepage/enabled` is `always`), `MIMALLOC_ALLOW_THP=0` in the environment
//! declines them, for the process and those that it starts.

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
        const MANY: usize = 64 << 20;
        assert_eq!(super::ALLOCATED_BYTES.is_some(), cfg!(feature = "counted"));
        let Some(bytes) = super::ALLOCATED_BYTES else { return };
        // The test's own threads may free a little meanwhile.
        let before = bytes();
        let held = std::hint::black_box(vec![0_u8; MANY]);
        assert!(bytes() >= before + MANY / 2);
        drop(held);
        assert!(bytes() < before + MANY / 2);
    }
}
