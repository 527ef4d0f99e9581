//! A recorded track as one MP4 file: fragments, made one after the other while the viewer takes them.
//! Nothing is decoded, no other program runs, and of each film one segment at a time is in memory, for
//! which all films together have so much room.

use super::{FILMS_KIB, RecordingError, seats::Seat};
use crate::media::fmp4::{Cut, Place, Want};
use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use penstock_store::RecordStore;
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Memory that a segment takes while it is made into a fragment: itself, its frames, the fragment.
const TIMES: u64 = 4;
/// Largest segment that is read.
const MOST_SEGMENT: u64 = FILMS_KIB as u64 * 1024 / TIMES;
/// What is sent at a time, and how long a viewer may leave it lying.
const PIECE: usize = 1 << 20;
const TAKE_TIME: Duration = Duration::from_secs(60);
/// Segments without pictures that a track may begin with.
const MOST_WITHOUT: usize = 10;

/// A segment of the track.
#[derive(Debug, Clone)]
pub(super) struct File {
    /// In the store.
    pub(super) name: String,
    /// Its times do not go on.
    pub(super) discontinuity: bool,
}

/// What a film is being made of.
struct Film {
    store: Arc<RecordStore>,
    files: std::vec::IntoIter<File>,
    clock: Clock,
    /// The first segment's tracks, as the file says them.
    sound: Option<crate::media::fmp4::Track>,
    /// Where the sound ends so far, in its ticks.
    heard: u64,
    number: u32,
    room: Arc<Semaphore>,
    /// For the segment in work.
    held: Option<OwnedSemaphorePermit>,
}

/// Where segments lie in the film: as their own times say while these go on, else one behind the other.
#[derive(Debug, Clone, Copy, Default)]
struct Clock {
    /// A time of the segments, and what it is in the film.
    base: Option<(i64, u64)>,
    /// Where the film ends so far.
    end_ms: u64,
}

impl Clock {
    /// Where in the film a segment is shown, and the clock then.
    fn place(mut self, at: Place, goes_on: bool) -> (u64, Self) {
        let by_its_times = self.base.filter(|_| goes_on).and_then(|(pts, ms)| {
            let passed = u64::try_from(at.pts.checked_sub(pts)? / 90).ok()?;
            let place = ms.checked_add(passed)?;
            // A hole, a little overlap; not a clock that jumped.
            let fits = self.end_ms.saturating_sub(100)..self.end_ms.saturating_add(10_000);
            fits.contains(&place).then_some(place)
        });
        let place = by_its_times.unwrap_or_else(|| {
            // Nothing is decoded before the film begins.
            let place = self.end_ms.max(u64::from(at.delay).div_ceil(90));
            self.base = Some((at.pts, place));
            place
        });
        (place, self)
    }
}

impl Film {
    /// The next segment that can be read.
    async fn next(&mut self, most_without: usize) -> Result<Option<Cut>, RecordingError> {
        let mut without = 0;
        for file in self.files.by_ref() {
            self.held = None;
            let Some(mut found) = self.store.open(&file.name).await? else { continue };
            if found.size > MOST_SEGMENT {
                continue;
            }
            let kib = u32::try_from(found.size * TIMES / 1024).unwrap_or(FILMS_KIB);
            self.held = Arc::clone(&self.room).try_acquire_many_owned(kib).ok();
            if self.held.is_none() {
                // Not kept open meanwhile: the store would close it.
                drop(found);
                self.held = Arc::clone(&self.room).acquire_many_owned(kib).await.ok();
                match self.store.open(&file.name).await? {
                    Some(again) => found = again,
                    None => continue,
                }
            }
            let data = found.whole(MOST_SEGMENT).await?;
            let (clock, goes_on) = (self.clock, !file.discontinuity);
            let cut = tokio::task::spawn_blocking(move || {
                let mut clock = clock;
                let cut = Cut::placed(&data, |at| {
                    let (place, then) = clock.place(at, goes_on);
                    clock = then;
                    place
                })?;
                clock.end_ms = cut.end_ms();
                Some((cut, clock))
            });
            if let Ok(Some((cut, clock))) = cut.await {
                self.clock = clock;
                return Ok(Some(cut));
            }
            // A hole in the film.
            without += 1;
            if without >= most_without {
                break;
            }
        }
        Ok(None)
    }

    fn fragment(&mut self, mut cut: Cut) -> Bytes {
        // The file says at its beginning how its sound is coded.
        cut.audio.take_if(|audio| self.sound.as_ref() != Some(&audio.track));
        self.heard = cut.sound_after(self.heard);
        self.number = self.number.wrapping_add(1).max(1);
        cut.fragment(self.number, Want::Both).into()
    }
}

impl Film {
    /// Makes and sends fragments to the film's end; `false` if its viewer takes nothing any more, or the
    /// store fails.
    async fn send_all(&mut self, first: Cut, to: &mpsc::Sender<Bytes>, seat: &Seat) -> bool {
        let mut next = Ok(Some(first));
        while let Ok(Some(cut)) = next {
            let mut rest = self.fragment(cut);
            while !rest.is_empty() {
                let piece = rest.split_to(rest.len().min(PIECE));
                let bytes = piece.len();
                seat.waits(Instant::now());
                let taken = tokio::time::timeout(TAKE_TIME, to.send(piece)).await;
                if !matches!(taken, Ok(Ok(()))) {
                    return false;
                }
                seat.took(bytes, Instant::now());
            }
            next = self.next(usize::MAX).await;
        }
        match next {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(%error, "a film breaks off");
                false
            }
        }
    }
}

/// Begins a film; what comes first is made before anything is answered.
pub(super) async fn make(
    store: Arc<RecordStore>,
    files: Vec<File>,
    seat: Seat,
    room: Arc<Semaphore>,
) -> Result<BoxStream<'static, Result<Bytes, io::Error>>, RecordingError> {
    let files = files.into_iter();
    let mut film = Film {
        store,
        files,
        clock: Clock::default(),
        sound: None,
        heard: 0,
        number: 0,
        room,
        held: None,
    };
    let first = film.next(MOST_WITHOUT).await?.ok_or(RecordingError::NoFilm)?;
    film.sound = first.audio.as_ref().map(|audio| audio.track.clone());
    let begin = Bytes::from(first.init(Want::Both));
    let (sender, receiver) = mpsc::channel(1);
    let is_whole = Arc::new(AtomicBool::new(false));
    let whole = Arc::clone(&is_whole);
    tokio::spawn(async move {
        let lost = seat.lost();
        tokio::select! {
            all = film.send_all(first, &sender, &seat) => whole.store(all, Ordering::SeqCst),
            () = lost => {}
        }
    });
    let rest = futures::stream::unfold(Some(receiver), move |receiver| {
        let is_whole = Arc::clone(&is_whole);
        async move {
            let mut receiver = receiver?;
            match receiver.recv().await {
                Some(piece) => Some((Ok(piece), Some(receiver))),
                None if is_whole.load(Ordering::SeqCst) => None,
                // The answer has begun: breaking it off says that something is missing.
                None => Some((Err(io::Error::other("the film breaks off")), None)),
            }
        }
    });
    Ok(futures::stream::iter([Ok(begin)]).chain(rest).boxed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_a_film() {
        let at = |pts, delay| Place { pts, delay };
        // The first one is decoded from 0 on.
        let (place, mut clock) = Clock::default().place(at(900_000, 7_200), true);
        assert_eq!(place, 80);
        clock.end_ms = 2_080;
        // Its own times place the next, without rounding errors that add up.
        let (place, mut clock) = clock.place(at(900_000 + 180_180, 7_200), true);
        assert_eq!(place, 2_082);
        clock.end_ms = 4_082;
        for (pts, goes_on, wanted) in [
            (900_000 + 360_360, true, 4_084),
            (900_000 + 360_360, false, 4_082),
            (900_000 + 540_000, true, 6_080),
            (5, true, 4_082),
            (i64::MIN, true, 4_082),
            (i64::MAX, true, 4_082),
        ] {
            let (place, then) = clock.place(at(pts, 0), goes_on);
            assert_eq!(place, wanted, "{pts} {goes_on}");
            assert_eq!(then.end_ms, 4_082);
        }
    }
}
