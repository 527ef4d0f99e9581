//! A recorded track as one MP4 file: fragments, made one after the other while the viewer takes them.
//! Nothing is decoded, no other program runs, and of each film one segment at a time is in memory, for
//! which all films together have so much room.
//!
//! Most of it is needed for moments, while a segment is read and made into a fragment. A viewer holds what he
//! has not taken of the fragment, and gives it back piece by piece. Whoever needs room that is not there gets it
//! from those who take too little, as he would get a seat; and waits for so long and no longer.

use super::{
    FILMS_KIB, RecordingError,
    seats::{Seat, Seats},
};
use crate::media::fmp4::{Cut, Place, Want};
use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use penstock_store::RecordStore;
use std::{
    collections::VecDeque,
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
/// Largest segment that is read: no viewer has more than half of the room, even for a moment.
const MOST_SEGMENT: u64 = FILMS_KIB as u64 * 1024 / TIMES / 2;
/// What is sent at a time, and how long a viewer may leave it lying.
const PIECE: usize = 1 << 20;
const TAKE_TIME: Duration = Duration::from_secs(60);
/// How long a film waits for room, and how often it is looked for who takes too little.
const ROOM_TIME: Duration = Duration::from_secs(60);
const ROOM_LOOK: Duration = Duration::from_secs(1);
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
    room: Room,
    /// For the segment in work.
    held: Option<OwnedSemaphorePermit>,
}

/// Memory for what films are made of, and who sits in it.
#[derive(Debug, Clone)]
pub(super) struct Room {
    pub(super) kib: Arc<Semaphore>,
    pub(super) seats: Arc<Seats>,
}

impl Room {
    /// So much of it, if there is so much now.
    fn at_once(&self, kib: u32) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.kib).try_acquire_many_owned(kib).ok()
    }

    /// The same, waited for: for `time`, and while that lasts viewers who take too little make room.
    async fn wait(
        &self,
        kib: u32,
        look: Duration,
        time: Duration,
    ) -> Result<OwnedSemaphorePermit, RecordingError> {
        let until = tokio::time::Instant::now() + time;
        let mut there = std::pin::pin!(Arc::clone(&self.kib).acquire_many_owned(kib));
        loop {
            let now = tokio::time::Instant::now();
            match tokio::time::timeout(look.min(until - now), &mut there).await {
                Ok(permit) => return permit.map_err(|_| RecordingError::Busy),
                Err(_) if tokio::time::Instant::now() >= until => {
                    return Err(RecordingError::Busy);
                }
                Err(_) => self.seats.end_the_slowest(Instant::now()),
            }
        }
    }
}

/// What is sent of a fragment, and the memory that it takes.
#[derive(Debug)]
struct Pieces {
    left: VecDeque<Bytes>,
    held: Option<OwnedSemaphorePermit>,
}

impl Pieces {
    /// Pieces of their own, so that each is given back when it is taken. `held` was for making them, too.
    fn of(fragment: &[u8], held: Option<OwnedSemaphorePermit>) -> Self {
        let left = fragment.chunks(PIECE).map(Bytes::copy_from_slice).collect();
        let mut pieces = Self { left, held };
        pieces.give_back();
        pieces
    }

    /// The next one.
    fn pop(&mut self) -> Option<Bytes> {
        let piece = self.left.pop_front();
        self.give_back();
        piece
    }

    fn give_back(&mut self) {
        let kib: usize = self.left.iter().map(|piece| piece.len().div_ceil(1024)).sum();
        if let Some(held) = &mut self.held {
            drop(held.split(held.num_permits().saturating_sub(kib)));
        }
    }
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
            self.held = self.room.at_once(kib);
            if self.held.is_none() {
                // Not kept open meanwhile: the store would close it.
                drop(found);
                self.held = Some(self.room.wait(kib, ROOM_LOOK, ROOM_TIME).await?);
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

    fn fragment(&mut self, mut cut: Cut) -> Pieces {
        // The file says at its beginning how its sound is coded.
        cut.audio.take_if(|audio| self.sound.as_ref() != Some(&audio.track));
        self.heard = cut.sound_after(self.heard);
        self.number = self.number.wrapping_add(1).max(1);
        let fragment = cut.fragment(self.number, Want::Both);
        Pieces::of(&fragment, self.held.take())
    }
}

impl Film {
    /// Makes and sends fragments to the film's end; `false` if its viewer takes nothing any more, or the
    /// store fails.
    async fn send_all(&mut self, first: Cut, to: &mpsc::Sender<Bytes>, seat: &Seat) -> bool {
        let mut next = Ok(Some(first));
        while let Ok(Some(cut)) = next {
            let mut rest = self.fragment(cut);
            while let Some(piece) = rest.pop() {
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
    room: Room,
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
    fn what_is_taken_is_given_back() {
        let room = Arc::new(Semaphore::new(100 * 1024));
        let held = Arc::clone(&room).try_acquire_many_owned(40 * 1024).unwrap();
        let fragment = [vec![7; 9 << 20], vec![8; 100]].concat();
        let mut pieces = Pieces::of(&fragment, Some(held));
        let free = || room.available_permits() / 1024;
        assert_eq!(free(), 90, "what making it took is free");
        let mut got = pieces.pop().unwrap().to_vec();
        assert_eq!(free(), 91);
        while let Some(piece) = pieces.pop() {
            assert!(piece.len() <= PIECE);
            got.extend(piece);
        }
        assert!(free() == 100 && got == fragment);
    }

    #[tokio::test]
    async fn who_takes_nothing_makes_room() {
        use futures::FutureExt as _;
        let room = Room { kib: Arc::new(Semaphore::new(10)), seats: Arc::new(Seats::new(8)) };
        let soon = Duration::from_millis(1);
        let held = room.at_once(10).unwrap();
        let slow = room.seats.take(Instant::now()).unwrap();
        slow.waits(Instant::now().checked_sub(Duration::from_secs(600)).unwrap());
        let viewer = async {
            slow.lost().await;
            drop((slow, held));
        };
        let long = Duration::from_secs(120);
        let (got, ()) = tokio::join!(room.wait(10, soon, long), viewer);
        let held = got.unwrap();
        // One who is quick enough keeps what he has, and is waited for only so long.
        let quick = room.seats.take(Instant::now()).unwrap();
        quick.waits(Instant::now());
        let refused = room.wait(1, soon, 10 * soon).await;
        assert!(matches!(refused, Err(RecordingError::Busy)), "{refused:?}");
        assert!(quick.lost().now_or_never().is_none());
        drop(held);
        assert!(room.wait(1, soon, soon).await.is_ok());
    }

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
