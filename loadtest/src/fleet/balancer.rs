//! HAProxy with the very file that deployments use.

use super::free_port;
use penstock_testkit::{Process, Spec, places, until_ok};
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

/// How many gateways and signers the file has places for.
const GATEWAYS: usize = 3;
const SIGNERS: usize = 2;

/// HAProxy.
#[derive(Debug)]
pub struct Balancer {
    /// Where applications come in.
    pub http: SocketAddr,
    /// Where encoders push RTMP.
    pub rtmp: SocketAddr,
    /// Where gateways find a signer.
    pub signers: SocketAddr,
    status: SocketAddr,
    /// For whom there is no process.
    nobody: SocketAddr,
    logs: PathBuf,
    process: Option<Process>,
}

impl Balancer {
    /// Not running yet, with its addresses chosen.
    pub(super) fn new(host: Ipv4Addr, logs: &Path) -> Self {
        let port = || free_port(host);
        let (http, rtmp, signers) = (port(), port(), port());
        Self {
            http,
            rtmp,
            signers,
            status: port(),
            nobody: port(),
            logs: logs.to_owned(),
            process: None,
        }
    }

    /// Starts it before these gateways (where they listen for HTTP, and for RTMP) and signers.
    pub(super) async fn start(
        &mut self,
        (gateways, rtmp): (&[String], &[String]),
        signers: &[String],
    ) {
        assert!(
            gateways.len() <= GATEWAYS && signers.len() <= SIGNERS,
            "the file has no more places"
        );
        let mut env: BTreeMap<String, String> = [
            ("HTTP_BIND", self.http),
            ("RTMP_BIND", self.rtmp),
            ("SIGNER_BIND", self.signers),
            ("STATUS_BIND", self.status),
        ]
        .map(|(name, address)| (name.to_owned(), address.to_string()))
        .into();
        let mut fill = |prefix: &str, places: usize, there: &[String]| {
            for n in 0..places {
                let address = there.get(n).cloned().unwrap_or_else(|| self.nobody.to_string());
                env.insert(format!("{prefix}{}", n + 1), address);
            }
        };
        fill("GATEWAY_", GATEWAYS, gateways);
        fill("GATEWAY_RTMP_", GATEWAYS, rtmp);
        fill("SIGNER_", SIGNERS, signers);
        let config = places::repository().join("deploy/haproxy.cfg");
        let spec = Spec {
            name: "haproxy".to_owned(),
            program: places::program("haproxy"),
            args: vec!["-db".to_owned(), "-f".to_owned(), config.display().to_string()],
            env,
        };
        let mut process = Process::new(spec, &self.logs);
        process.spawn();
        self.process = Some(process);
    }

    /// HAProxy's own process.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("a started balancer").pid()
    }

    /// Waits until every backend that has this server sends it work.
    pub async fn knows(&self, http: &reqwest::Client, server: &str) {
        let url = format!("http://{}/stats;csv", self.status);
        until_ok(&format!("the balancer knows {server}"), || async {
            let answer = http.get(&url).send().await.map_err(|error| error.to_string())?;
            let text = answer.text().await.map_err(|error| error.to_string())?;
            let states = states(&text, server);
            let up = !states.is_empty() && states.iter().all(|(_, state)| state.starts_with("UP"));
            if up { Ok(()) } else { Err(format!("{states:?}")) }
        })
        .await;
    }
}

/// Backend and state of each place that a server has, from the statistics.
fn states(csv: &str, server: &str) -> Vec<(String, String)> {
    let Some(head) = csv.lines().next() else { return Vec::new() };
    let names: Vec<&str> = head.trim_start_matches("# ").split(',').collect();
    let column =
        |name: &str| names.iter().position(|found| *found == name).expect("a known column");
    let (backend, name, state) = (column("pxname"), column("svname"), column("status"));
    let rows = csv.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>());
    rows.filter(|row| row.get(name) == Some(&server))
        .map(|row| (row[backend].to_owned(), row[state].to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_place_of_a_server_is_found() {
        let csv = "# pxname,svname,qcur,status\njobs,gateway-1,0,UP\nreads,gateway-1,0,DOWN\n\
                   jobs,gateway-2,0,UP\n";
        let states = super::states(csv, "gateway-1");
        assert_eq!(
            states,
            [("jobs".into(), "UP".into()), ("reads".into(), "DOWN".to_owned())]
                .map(|(a, b): (String, String)| (a, b))
        );
    }
}
