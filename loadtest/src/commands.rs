//! The commands `run` and `compare`: a scenario's file against a target or a network of its own, and reports
//! beside each other. Whatever is wrong with what was asked for ends them with status 2, before anything is
//! loaded; a load of which nothing went well ends them with status 1.

use clap::Args;
use penstock_loadtest::{
    draw,
    load::{
        self, Whom,
        report::{Report, compare::Comparison, html, text},
        scenario::{MAX_GATEWAYS, Scenario},
        target::{self, Target},
    },
    machine::Origin,
};
use std::{fs, path::PathBuf, process::ExitCode};

/// What was asked for cannot be done.
const WRONG: u8 = 2;
/// A load of which nothing went well.
const HOPELESS: u8 = 1;
/// Bytes of a bearer token's file, at most.
const TOKEN_BYTES: usize = 16 << 10;

#[derive(Debug, Args)]
pub struct Run {
    /// The scenario (loadtest/scenarios has some).
    #[arg(value_name = "SCENARIO.toml")]
    scenario: PathBuf,
    /// Whom to load: a gateway's URL, or ROLE=URL with one of gateway, rtmp, signer, orchestrator, live-runner,
    /// trickle; may be given more than once. Without any, a network of its own is started.
    #[arg(long = "target", value_name = "[ROLE=]URL")]
    targets: Vec<String>,
    /// A target that is not on this machine is mine to load.
    #[arg(long)]
    i_own_this_target: bool,
    /// A target's page of metrics, whose counters go into the report; may be given more than once.
    #[arg(long = "metrics", value_name = "URL", requires = "targets")]
    metrics: Vec<String>,
    /// A file with the API key or token for gateways and signers (sent as `Authorization: Bearer`).
    #[arg(long, value_name = "FILE", requires = "targets")]
    bearer_file: Option<PathBuf>,
    /// Accept any certificate of gateways and signers.
    #[arg(long, requires = "targets")]
    accept_any_certificate: bool,
    /// The folder of the roles' programs, for a network of its own; the one of this program if it is not given.
    #[arg(long, value_name = "FOLDER", conflicts_with = "targets")]
    programs: Option<PathBuf>,
    /// Numbers of gateways, one run for each.
    #[arg(long, value_delimiter = ',', value_name = "N,…", conflicts_with = "targets")]
    replicas: Vec<usize>,
    /// No more operations of each load than so many.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// No load longer than so many seconds.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    duration_s: Option<u64>,
    /// Decides random arrivals, and the accounts of a network of its own, instead of what the scenario says.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Where the report goes as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the report goes as a page.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// The commit that was built, for the report.
    #[arg(long, value_name = "HASH", default_value = "unknown")]
    commit: String,
}

#[derive(Debug, Args)]
pub struct Compare {
    /// Reports as JSON.
    #[arg(value_name = "REPORT.json", required = true, num_args = 2..=8)]
    reports: Vec<PathBuf>,
    /// Where the page goes.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// `run`
#[tokio::main]
pub async fn run(args: Run) -> ExitCode {
    match run_it(args).await {
        Ok(hopeless) if hopeless.is_empty() => ExitCode::SUCCESS,
        Ok(hopeless) => {
            eprintln!("nothing went well of: {}", hopeless.join(", "));
            ExitCode::from(HOPELESS)
        }
        Err(why) => wrong(&why),
    }
}

async fn run_it(args: Run) -> Result<Vec<String>, String> {
    let path = args.scenario.display();
    let file = fs::read_to_string(&args.scenario).map_err(|error| format!("{path}: {error}"))?;
    let scenario = Scenario::parse(&file).map_err(|error| format!("{path}: {error}"))?;
    let mut scenario = scenario.shortened(args.count, args.duration_s);
    scenario.seed = args.seed.unwrap_or(scenario.seed);
    draw::begin(scenario.seed);
    let whom = whom(&args, &scenario)?;
    // Before the run, not after it.
    for output in [&args.json, &args.html].into_iter().flatten() {
        fs::write(output, "").map_err(|error| format!("{}: {error}", output.display()))?;
    }
    let origin = Origin::here(&args.commit, crate::profile());
    let say = |line: &str| eprintln!("    {line}");
    let report = load::run(&scenario, &file, &whom, origin, say).await?;
    print!("{}", text::render(&report));
    let outputs = [
        (&args.json, Report::to_json as fn(&Report) -> String),
        (&args.html, html::render as fn(&Report) -> String),
    ];
    for (output, render) in outputs {
        let Some(output) = output else { continue };
        fs::write(output, render(&report)).map_err(|e| format!("{}: {e}", output.display()))?;
    }
    Ok(report.hopeless())
}

fn whom(args: &Run, scenario: &Scenario) -> Result<Whom, String> {
    if args.targets.is_empty() {
        let wrong = args.replicas.iter().find(|number| !(1..=MAX_GATEWAYS).contains(number));
        if let Some(number) = wrong {
            return Err(format!(
                "--replicas {number}: 1 to {MAX_GATEWAYS} gateways can be started"
            ));
        }
        let programs = match &args.programs {
            Some(programs) => programs.clone(),
            None => {
                let own = std::env::current_exe().map_err(|error| error.to_string())?;
                own.parent().map(PathBuf::from).unwrap_or_default()
            }
        };
        return Ok(Whom::Own { programs, replicas: args.replicas.clone() });
    }
    let mut target = Target::default();
    target.any_certificate = args.accept_any_certificate;
    for text in &args.targets {
        target.add(text).map_err(|error| error.to_string())?;
    }
    for page in &args.metrics {
        target.metrics.push(page.parse().map_err(|error| format!("--metrics {page}: {error}"))?);
    }
    if let Some(file) = &args.bearer_file {
        let token = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        let token = token.trim();
        if token.is_empty() || token.len() > TOKEN_BYTES {
            return Err(format!("{}: it has to hold one token", file.display()));
        }
        target.bearer = Some(token.to_owned());
    }
    let needs = target::needs(scenario);
    target.check(&needs, args.i_own_this_target).map_err(|error| error.to_string())?;
    Ok(Whom::There(target))
}

/// `compare`
pub fn compare(args: &Compare) -> ExitCode {
    let read = |path: &PathBuf| -> Result<(String, Report), String> {
        let bad = |why: String| format!("{}: {why}", path.display());
        let text = fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
        let report = Report::parse(&text).map_err(|error| bad(error.to_string()))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok((name, report))
    };
    let reports: Result<Vec<_>, String> = args.reports.iter().map(read).collect();
    let comparison = match reports {
        Ok(reports) => Comparison::new(reports),
        Err(why) => return wrong(&why),
    };
    print!("{}", comparison.text());
    if let Some(html) = &args.html
        && let Err(error) = fs::write(html, comparison.html())
    {
        return wrong(&format!("{}: {error}", html.display()));
    }
    ExitCode::SUCCESS
}

fn wrong(why: &str) -> ExitCode {
    eprintln!("{why}");
    ExitCode::from(WRONG)
}
