//! Where a run is: a bar for each load, drawn again and again on a terminal, and a line now and then where
//! there is none.

use super::{scenario::Load, tally::Tally};
use std::{
    fmt::Write as _,
    io::{IsTerminal as _, Write as _},
    sync::Arc,
    time::Duration,
};
use tokio::time::{Instant, interval};

/// Between two drawings.
const DRAW: Duration = Duration::from_millis(250);
/// Between two lines without a terminal.
const LINE: Duration = Duration::from_secs(10);
/// Characters of a bar.
const WIDTH: usize = 24;

/// One load, as its bar shows it.
#[derive(Debug, Clone)]
struct Row {
    name: String,
    /// Of one.
    done: f64,
    ended: u64,
    expected: Option<u64>,
    per_second: f64,
    in_flight: u64,
    failed: u64,
}

impl Row {
    fn of(load: &Load, tally: &Tally) -> Self {
        let progress = tally.progress();
        let passed = tally.began().elapsed();
        let ended = progress.ok + progress.failed;
        let part = |now: f64, of: f64| (now / of.max(f64::MIN_POSITIVE)).clamp(0.0, 1.0);
        let by_count = load.end.count.map(|count| part(ended as f64, count as f64));
        let by_time = load.end.duration.map(|all| part(passed.as_secs_f64(), all.as_secs_f64()));
        Self {
            name: load.name.clone(),
            done: by_count.unwrap_or(0.0).max(by_time.unwrap_or(0.0)),
            ended,
            expected: load.expected(),
            per_second: ended as f64 / passed.as_secs_f64().max(0.001),
            in_flight: progress.in_flight(),
            failed: progress.failed,
        }
    }

    fn line(&self, name_width: usize) -> String {
        let full = (self.done * WIDTH as f64).round() as usize;
        let bar = "█".repeat(full.min(WIDTH)) + &"░".repeat(WIDTH.saturating_sub(full));
        let mut line = format!("{:name_width$} {bar} {}", self.name, self.ended);
        if let Some(expected) = self.expected {
            let _ = write!(line, "/{expected}");
        }
        let _ = write!(line, "  {:.1}/s  {} in flight", self.per_second, self.in_flight);
        if self.failed > 0 {
            let _ = write!(line, "  {} FAILED", self.failed);
        }
        line
    }
}

/// Draws until it is dropped by whoever runs it beside the loads.
pub async fn show(loads: &[(Load, Arc<Tally>)], say: impl Fn(&str)) {
    let width = loads.iter().map(|(load, _)| load.name.len()).max().unwrap_or(0);
    let lines = || loads.iter().map(|(load, tally)| Row::of(load, tally).line(width));
    if !std::io::stderr().is_terminal() {
        let mut ticks = interval(LINE);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            lines().for_each(|line| say(&line));
        }
    }
    let drawn = Drawn(loads.len());
    let mut ticks = interval(DRAW);
    let began = Instant::now();
    loop {
        ticks.tick().await;
        drawn.draw(lines(), began.elapsed() > DRAW / 2);
    }
}

/// So many lines on the terminal.
struct Drawn(usize);

impl Drawn {
    fn draw(&self, lines: impl Iterator<Item = String>, again: bool) {
        let mut text = String::new();
        if again {
            let _ = write!(text, "\x1b[{}A", self.0);
        }
        for line in lines {
            let _ = writeln!(text, "\x1b[2K    {line}");
        }
        // A terminal that is gone is no reason to stop.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_full_as_its_load() {
        let row = |done| Row {
            name: "ai".to_owned(),
            done,
            ended: 412,
            expected: Some(900),
            per_second: 19.84,
            in_flight: 3,
            failed: 0,
        };
        let line = row(0.5).line(4);
        assert!(line.starts_with(&format!("ai   {}{} 412/900", "█".repeat(12), "░".repeat(12))));
        assert!(line.ends_with("19.8/s  3 in flight"), "{line}");
        assert_eq!(row(0.0).line(2).matches('█').count(), 0);
        assert_eq!(row(1.0).line(2).matches('░').count(), 0);
        let failed = Row { failed: 7, expected: None, ..row(1.0) }.line(2);
        assert!(failed.contains(" 412  ") && failed.ends_with("7 FAILED"), "{failed}");
    }
}
