//! The figures of a round: which of the drivers' raw values stand beside which baseline.

use serde_json::Value;

use super::{Figure, Target};

const PER_CPU: &str = "per CPU-second";
const PER_SECOND: &str = "per second";
const US: &str = "µs";

/// All figures of some rounds; nothing if one lacks what another has.
pub fn figures(rounds: &[Value]) -> Option<Vec<Figure>> {
    let mut all: Vec<Figure> = Vec::new();
    for round in rounds {
        let parts = [signer(round)?, keys(round)?, gateway(round)?, crowds(round)?];
        let measured = [parts.concat(), tickets(round)?, media(round)?, load(round)?].concat();
        if all.is_empty() {
            all = measured;
            continue;
        }
        for figure in measured {
            let known = all.iter_mut().find(|known| known.name == figure.name)?;
            known.raw.extend(figure.raw);
        }
    }
    let whole = |figure: &Figure| figure.raw.len() == rounds.len() && figure.median().is_finite();
    all.iter().all(whole).then_some(all)
}

/// One round of a figure.
fn once(
    name: String,
    beside: &'static str,
    target: Option<Target>,
    unit: &'static str,
    (measured, bare): (f64, f64),
) -> Figure {
    Figure { name, beside, target, unit, raw: vec![(measured, bare)] }
}

/// The same number of two things.
fn both(measured: &Value, bare: &Value, path: &str) -> Option<(f64, f64)> {
    Some((measured.pointer(path)?.as_f64()?, bare.pointer(path)?.as_f64()?))
}

fn signer(round: &Value) -> Option<Vec<Figure>> {
    let mut figures = Vec::new();
    let bare = round.pointer("/signer/raw/pairs_per_cpu_second")?.as_f64()?;
    for run in round.pointer("/signer/runs")?.as_array()? {
        let ledger = run.get("ledger")?.as_str()?;
        let target = if ledger == "sqlite" { 0.5 } else { 0.4 };
        figures.push(once(
            format!("signer: payments per CPU-second, {ledger}"),
            "two bare signatures",
            Some(Target::AtLeast(target)),
            PER_CPU,
            (run.pointer("/full/per_cpu_second")?.as_f64()?, bare),
        ));
    }
    Some(figures)
}

fn keys(round: &Value) -> Option<Vec<Figure>> {
    let (keystore, others) = round.pointer("/keys/runs")?.as_array()?.split_first()?;
    let mut figures = Vec::new();
    for run in others {
        let key = run.get("key")?.as_str()?;
        for (what, unit, path) in [
            ("per CPU-second", PER_CPU, "/full/per_cpu_second"),
            ("per second", PER_SECOND, "/full/per_second"),
        ] {
            let (name, raw) =
                (format!("signer: payments {what}, key in {key}"), both(run, keystore, path)?);
            figures.push(once(name, "a key in the keystore", None, unit, raw));
        }
    }
    Some(figures)
}

fn gateway(round: &Value) -> Option<Vec<Figure>> {
    const PROXY: &str = "a bare proxy of the same libraries";
    const CPU: &str = "/per_cpu_second";
    let ways = round.pointer("/gateway/ways")?.as_array()?;
    let way = |name: &str| ways.iter().find(|way| way.get("name").is_some_and(|n| n == name));
    let (gateway, keyed) = (way("gateway")?, way("gateway, jobs with `Idempotency-Key`")?);
    let (bare, itself) = (way("a bare proxy (axum, reqwest)")?, way("orchestrator itself")?);
    let replicas = |count: usize| way(&format!("gateway ×{count}, behind HAProxy"));
    let figure =
        |name: &str, beside, unit, raw| once(format!("gateway: {name}"), beside, None, unit, raw);
    let least = Some(Target::AtLeast(0.6));
    let mut figures = vec![
        once(
            "gateway: jobs per CPU-second".to_owned(),
            PROXY,
            least,
            PER_CPU,
            both(gateway, bare, CPU)?,
        ),
        figure("jobs with a key per CPU-second", PROXY, PER_CPU, both(keyed, bare, CPU)?),
        figure(
            "a job's median time at half load",
            "the orchestrator itself",
            US,
            both(gateway, itself, "/p50_us")?,
        ),
    ];
    for other in ["HAProxy", "nginx"] {
        let raw = both(way(other)?, bare, CPU)?;
        figures.push(once(format!("{other}: jobs per CPU-second"), PROXY, None, PER_CPU, raw));
    }
    for count in 1..=3 {
        figures.push(figure(
            &format!("jobs with a key per CPU-second, replicas behind HAProxy: {count}"),
            "one without HAProxy",
            PER_CPU,
            both(replicas(count)?, keyed, CPU)?,
        ));
    }
    for count in 2..=3 {
        figures.push(figure(
            &format!("jobs with a key per second, replicas behind HAProxy: {count}"),
            "one replica behind HAProxy",
            PER_SECOND,
            both(replicas(count)?, replicas(1)?, "/per_second")?,
        ));
    }
    Some(figures)
}

/// Choices and rounds of discovery among many, and video beside a flood.
fn crowds(round: &Value) -> Option<Vec<Figure>> {
    let mut figures = Vec::new();
    for crowd in round.pointer("/gateway/crowds")?.as_array()? {
        let of = crowd.get("orchestrators")?;
        let number = |name: &str| crowd.get(name)?.as_f64();
        figures.push(once(
            format!("gateway: a choice's p99, orchestrators: {of}"),
            "a whole job's median time",
            None,
            US,
            (number("p99_us")?, number("job_p50_us")?),
        ));
        figures.push(once(
            format!("gateway: a round of discovery, orchestrators: {of}"),
            "the first one, which makes all connections",
            None,
            "ms",
            (number("refresh_ms")?, number("cold_refresh_ms")?),
        ));
    }
    let flood = round.pointer("/gateway/flood")?;
    figures.push(once(
        "gateway: p99 of a video segment beside three times as many AI jobs as there are places for".to_owned(),
        "without AI jobs",
        Some(Target::AtMost(1.5)),
        US,
        both(flood.get("flooded")?, flood.get("quiet")?, "/p99_us")?,
    ));
    Some(figures)
}

/// From so many tickets on, a whole payment is held to what is asked of validation.
pub const WHOLE_PAYMENTS: u64 = 100;

fn tickets(round: &Value) -> Option<Vec<Figure>> {
    let all = round.get("orchestrator")?;
    let operation = |name: &str| all.pointer(&format!("/curve/{name}"))?.as_f64();
    let bare = 1e9 / operation("recovery_ns")?.min(operation("verification_ns")?);
    const BESIDE: &str = "the faster of recovery and verification";
    let target = Some(Target::AtLeast(0.6));
    let mut figures = Vec::new();
    for size in all.get("validation")?.as_array()? {
        let name = format!(
            "orchestrator: tickets validated per CPU-second, {} a payment",
            size.get("tickets_per_payment")?
        );
        let measured = 1e9 / size.get("ticket_ns")?.as_f64()?;
        figures.push(once(name, BESIDE, target, PER_CPU, (measured, bare)));
    }
    for load in all.get("tickets")?.as_array()? {
        let (ledger, each) = (load.get("ledger")?.as_str()?, load.get("tickets_per_payment")?);
        figures.push(once(
            format!("orchestrator: tickets per CPU-second, {each} a payment, {ledger}"),
            BESIDE,
            // A payment of few is mostly a request and a transaction, whose bound is another.
            target.filter(|_| each.as_u64() >= Some(WHOLE_PAYMENTS)),
            PER_CPU,
            (load.get("tickets_per_cpu_second")?.as_f64()?, bare),
        ));
    }
    Some(figures)
}

/// Segments, and channels with few and many readers.
fn media(round: &Value) -> Option<Vec<Figure>> {
    const COPY: &str = "a bare copy";
    let all = round.get("orchestrator")?;
    let number = |path: &str| all.pointer(path)?.as_f64();
    let figure = |name: String, beside, unit, raw| {
        once(format!("orchestrator: {name}"), beside, None, unit, raw)
    };
    let mut figures = vec![
        once(
            "orchestrator: a segment's time, transcoded".to_owned(),
            "a bare ffmpeg",
            Some(Target::AtMost(1.1)),
            "ms",
            (number("/segments/through_p50_ms")?, number("/segments/bare_p50_ms")?),
        ),
        figure(
            "the first byte's median time to few readers".to_owned(),
            COPY,
            US,
            (number("/first_byte/trickle/p50_us")?, number("/first_byte/bare/p50_us")?),
        ),
    ];
    for fan_out in all.get("fan_out")?.as_array()? {
        let of = |way: &str| fan_out.get(way)?.get("bytes_per_cpu_second")?.as_f64();
        figures.push(figure(
            format!("trickle bytes per CPU-second, readers: {}", fan_out.get("readers")?),
            COPY,
            PER_CPU,
            (of("trickle")?, of("bare")?),
        ));
    }
    let crowd = all.get("crowd")?;
    figures.push(figure(
        format!("a byte's median time to all who wait for it, readers: {}", crowd.get("readers")?),
        COPY,
        US,
        both(crowd.get("trickle")?, crowd.get("bare")?, "/p50_us")?,
    ));
    let live = all.get("live")?;
    let (channels, last) = (live.get("channels")?, live.get("rounds")?.as_array()?.last()?);
    for (what, path) in [("median", "/p50_us"), ("p99", "/p99_us")] {
        figures.push(figure(
            format!("a byte's {what} time, live channels: {channels}"),
            "as many bare copies",
            US,
            both(last.get("times")?, live.get("bare")?, path)?,
        ));
    }
    figures.push(figure(
        format!("memory when all were deleted, live channels: {channels}"),
        "before the first",
        "KiB",
        (last.get("rss_after_kib")?.as_f64()?, live.get("rss_before_kib")?.as_f64()?),
    ));
    Some(figures)
}

/// A scenario of the load test, which the gateway's bench asks for in the same way without a gateway.
fn load(round: &Value) -> Option<Vec<Figure>> {
    let ways = round.pointer("/gateway/ways")?.as_array()?;
    let itself =
        ways.iter().find(|way| way.get("name").is_some_and(|n| n == "orchestrator itself"))?;
    let scenario = round.pointer("/load/scenario")?.as_str()?;
    let jobs = round.pointer("/load/runs/0/loads/0/per_second")?.as_f64()?;
    Some(vec![once(
        format!("load test: jobs per second, scenario `{scenario}`"),
        "the orchestrator itself, as many clients",
        None,
        PER_SECOND,
        (jobs, itself.get("per_second")?.as_f64()?),
    )])
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use serde_json::json;

    /// A round in which the gateway takes so many times as much.
    pub fn round(by: f64) -> Value {
        let way = |name: &str, per_cpu: f64| json!({"name": name, "per_cpu_second": per_cpu, "per_second": per_cpu, "p50_us": 1000.0 * by});
        let run = |key: &str, per: f64| json!({"ledger": "sqlite", "key": key, "full": {"per_cpu_second": per, "per_second": per}});
        let times = |p50_us: u64| json!({"p50_us": p50_us, "p99_us": p50_us * 2});
        json!({
            "signer": {"raw": {"pairs_per_cpu_second": 100.0}, "runs": [run("keystore", 34.0 * by)]},
            "keys": {"runs": [run("keystore", 50.0), run("SoftHSM", 10.0)]},
            "gateway": {
                "ways": [
                    way("gateway", 300.0 * by), way("gateway, jobs with `Idempotency-Key`", 200.0 * by),
                    way("a bare proxy (axum, reqwest)", 1000.0), way("orchestrator itself", 500.0),
                    way("HAProxy", 1400.0), way("nginx", 1500.0), way("gateway ×1, behind HAProxy", 160.0),
                    way("gateway ×2, behind HAProxy", 150.0), way("gateway ×3, behind HAProxy", 140.0),
                ],
                "crowds": [{"orchestrators": 300, "p99_us": 500, "job_p50_us": 2000, "refresh_ms": 30,
                    "cold_refresh_ms": 60}],
                "flood": {"quiet": times(100), "flooded": times(120)},
            },
            "orchestrator": {
                "curve": {"recovery_ns": 33_000, "verification_ns": 25_000},
                "validation": [{"tickets_per_payment": 1, "ticket_ns": 31_250}],
                "tickets": [
                    {"ledger": "sqlite", "tickets_per_payment": 1, "tickets_per_cpu_second": 28_000.0},
                    {"ledger": "sqlite", "tickets_per_payment": 100, "tickets_per_cpu_second": 40_000.0},
                ],
                "segments": {"through_p50_ms": 105.0, "bare_p50_ms": 100.0},
                "first_byte": {"trickle": times(30), "bare": times(20)},
                "fan_out": [{"readers": 10, "trickle": {"bytes_per_cpu_second": 69.0},
                    "bare": {"bytes_per_cpu_second": 100.0}}],
                "crowd": {"readers": 500, "trickle": times(80), "bare": times(40)},
                "live": {"channels": 200, "rss_before_kib": 100, "bare": times(10),
                    "rounds": [{"times": times(1), "rss_after_kib": 1}, {"times": times(30), "rss_after_kib": 120}]},
            },
            "load": {"scenario": "closed", "runs": [{"loads": [{"per_second": 100.0}]}]},
        })
    }

    fn ratio(figures: &[Figure], name: &str) -> f64 {
        figures
            .iter()
            .find(|figure| figure.name == name)
            .unwrap_or_else(|| panic!("{name}"))
            .median()
    }

    #[test]
    fn rounds_make_medians_with_their_noise() {
        let all = figures(&[round(1.0), round(1.2), round(0.9)]).unwrap();
        let gateway = all.iter().find(|f| f.name == "gateway: jobs per CPU-second").unwrap();
        assert!((gateway.median() - 0.3).abs() < 1e-9, "{gateway:?}");
        assert!((gateway.noise() - 0.09).abs() < 1e-9, "{gateway:?}");
        assert_eq!(gateway.met(), Some(false));
        let segment = all.iter().find(|f| f.beside == "a bare ffmpeg").unwrap();
        assert_eq!((segment.noise(), segment.met()), (0.0, Some(true)));
    }

    #[test]
    fn each_driver_has_its_figures() {
        let all = figures(&[round(1.0)]).unwrap();
        for (name, wanted) in [
            ("signer: payments per CPU-second, sqlite", 0.34),
            ("signer: payments per second, key in SoftHSM", 0.2),
            ("nginx: jobs per CPU-second", 1.5),
            ("gateway: jobs with a key per CPU-second, replicas behind HAProxy: 3", 0.7),
            ("gateway: jobs with a key per second, replicas behind HAProxy: 2", 0.9375),
            ("gateway: a choice's p99, orchestrators: 300", 0.25),
            ("gateway: a round of discovery, orchestrators: 300", 0.5),
            ("orchestrator: tickets validated per CPU-second, 1 a payment", 0.8),
            ("orchestrator: tickets per CPU-second, 1 a payment, sqlite", 0.7),
            ("orchestrator: a byte's median time to all who wait for it, readers: 500", 2.0),
            ("orchestrator: a byte's p99 time, live channels: 200", 3.0),
            ("orchestrator: memory when all were deleted, live channels: 200", 1.2),
            ("load test: jobs per second, scenario `closed`", 0.2),
        ] {
            assert!((ratio(&all, name) - wanted).abs() < 1e-9, "{name}: {}", ratio(&all, name));
        }
        let held = |of: &str| {
            let name = format!("orchestrator: tickets per CPU-second, {of} a payment, sqlite");
            all.iter().find(|figure| figure.name == name).unwrap().met()
        };
        assert_eq!((held("1"), held("100")), (None, Some(true)));
        let flood = all.iter().find(|figure| figure.beside == "without AI jobs").unwrap();
        assert_eq!((flood.raw.as_slice(), flood.met()), ([(240.0, 200.0)].as_slice(), Some(true)));
    }

    #[test]
    fn a_round_without_a_figure_makes_no_report() {
        for (place, nothing) in [
            ("/orchestrator/fan_out", json!([])),
            ("/gateway/crowds", json!([])),
            ("/gateway/flood", Value::Null),
            ("/keys", Value::Null),
            ("/load", Value::Null),
        ] {
            let mut short = round(1.0);
            *short.pointer_mut(place).unwrap() = nothing;
            assert_eq!(figures(&[round(1.0), short]), None, "{place}");
        }
        assert_eq!(figures(&[json!({})]), None);
    }
}
