//! A segment's payload: an append-only list of [`Bytes`] over pages of our own.
//!
//! What arrives is copied once, into pages, and never again: every reader gets clones of the same
//! [`Bytes`]. The one copy is what makes memory exact. A chunk as the HTTP layer hands it over keeps
//! the whole buffer alive into which it was read, which may be thousands of times its size.

use bytes::{Bytes, BytesMut};

/// Pages grow with the segment between these sizes, so that an event of 100 bytes costs little and
/// a film few allocations.
const PAGE_MIN: usize = 1 << 10;
const PAGE_MAX: usize = 256 << 10;
/// What a page costs beyond its bytes.
const PAGE_EXTRA: usize = 64;
/// Smallest step of the list.
const LIST_MIN: usize = 8;

/// What has to be granted before more can be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// A page of so many bytes.
    Page(usize),
    /// A list of so many entries in all; its present size is given back by that.
    List { entries: usize, more: usize },
}

impl Need {
    /// Bytes of memory.
    pub fn bytes(self) -> u64 {
        let bytes = match self {
            Self::Page(size) => size + PAGE_EXTRA,
            Self::List { more, .. } => more * size_of::<Bytes>(),
        };
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    /// The same in at most so many bytes: a page may be smaller, down to a useful size.
    pub fn within(self, bytes: u64) -> Option<Self> {
        if self.bytes() <= bytes {
            return Some(self);
        }
        let size = usize::try_from(bytes).ok()?.checked_sub(PAGE_EXTRA)?;
        (matches!(self, Self::Page(_)) && size >= PAGE_MIN).then_some(Self::Page(size))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Pages {
    list: Vec<Bytes>,
    page: BytesMut,
    payload: u64,
}

impl Pages {
    /// Moves as much of `chunk` as there is room for; says what is missing for the rest.
    pub fn append(&mut self, chunk: &mut Bytes) -> Option<Need> {
        while !chunk.is_empty() {
            let entries = self.list.capacity();
            if self.list.len() == entries {
                let more = entries.max(LIST_MIN);
                return Some(Need::List { entries: entries + more, more });
            }
            let room = self.room();
            if room == 0 {
                let so_far = usize::try_from(self.payload).unwrap_or(PAGE_MAX);
                let size = so_far.max(chunk.len()).clamp(PAGE_MIN, PAGE_MAX).next_power_of_two();
                return Some(Need::Page(size));
            }
            let part = chunk.split_to(chunk.len().min(room));
            self.payload += u64::try_from(part.len()).unwrap_or(0);
            self.page.extend_from_slice(&part);
            self.list.push(self.page.split().freeze());
        }
        None
    }

    fn room(&self) -> usize {
        self.page.capacity() - self.page.len()
    }

    /// Gives what was needed. Of two writers that needed the same, one finds it there already.
    pub fn grant(&mut self, need: Need) {
        match need {
            Need::Page(_) if self.room() > 0 => {}
            Need::Page(size) => self.page = BytesMut::with_capacity(size),
            Need::List { entries, .. } => {
                self.list.reserve_exact(entries.saturating_sub(self.list.len()));
            }
        }
    }

    /// The chunk at `at`, if it is there.
    pub fn get(&self, at: usize) -> Option<&Bytes> {
        self.list.get(at)
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Forgets all of it.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fill(pages: &mut Pages, chunk: &[u8]) -> u64 {
        let mut chunk = Bytes::copy_from_slice(chunk);
        let mut granted = 0;
        while let Some(need) = pages.append(&mut chunk) {
            granted += need.bytes();
            pages.grant(need);
        }
        granted
    }

    #[test]
    fn readers_share_the_pages() {
        let mut pages = Pages::default();
        fill(&mut pages, b"Hello");
        fill(&mut pages, b"World");
        let (a, b) = (pages.get(0).unwrap().clone(), pages.get(0).unwrap().clone());
        assert_eq!((a.as_ptr(), a.as_ref()), (b.as_ptr(), b"Hello".as_ref()));
        // One page, one after the other.
        assert_eq!(pages.get(1).unwrap().as_ptr(), a.as_ptr().wrapping_add(5));
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out_and_memory_is_as_granted(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3000), 0..60)
        ) {
            let mut pages = Pages::default();
            let granted: u64 = chunks.iter().map(|c| fill(&mut pages, c)).sum();
            let mut out = Vec::new();
            let mut at = 0;
            while let Some(chunk) = pages.get(at) {
                out.extend_from_slice(chunk);
                at += 1;
            }
            let whole = chunks.concat();
            prop_assert_eq!(&out, &whole);
            // All pages but the last are full, and that one is below twice the payload; each entry is
            // 32 bytes with room to grow.
            let most = 3 * whole.len() + PAGE_MIN + PAGE_EXTRA + 64 * (LIST_MIN + 2 * at) + 8 * PAGE_EXTRA;
            prop_assert!(granted <= u64::try_from(most).unwrap(), "{} > {}", granted, most);
        }
    }

    #[test]
    fn single_bytes_cost_a_bounded_multiple() {
        let mut pages = Pages::default();
        let granted: u64 = (0..10_000).map(|_| fill(&mut pages, b"x")).sum();
        assert!(granted < 10_000 * (2 * 32 + 4), "{granted}");
        assert_eq!(pages.list.capacity(), 16_384);
    }

    #[test]
    fn a_page_fits_what_is_left() {
        assert_eq!(Need::Page(4096).within(4096 + 64), Some(Need::Page(4096)));
        assert_eq!(Need::Page(4096).within(4096), Some(Need::Page(4032)));
        assert_eq!(Need::Page(4096).within(1024), None);
        assert_eq!(Need::List { entries: 16, more: 8 }.within(255), None);
    }

    #[test]
    fn a_large_chunk_is_split_over_largest_pages() {
        let mut pages = Pages::default();
        let granted = fill(&mut pages, &vec![7u8; 3 * PAGE_MAX]);
        assert_eq!(pages.list.iter().map(Bytes::len).max(), Some(PAGE_MAX));
        assert!(granted < u64::try_from(3 * PAGE_MAX + 4 * 1024).unwrap());
    }
}
