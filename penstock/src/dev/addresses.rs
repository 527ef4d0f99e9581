//! What the roles announce in their address files.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use super::{Launch, Layout, Role};

/// The addresses of a role; `None` until it has announced them.
pub(super) fn read(layout: &Layout, role: Role) -> Option<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(layout.addrs(role)).ok()?;
    serde_json::from_str(&text).ok()
}

/// Waits until the role has announced the address `key`.
pub(super) async fn wait(layout: &Layout, role: Role, key: &str) -> String {
    loop {
        if let Some(addr) = read(layout, role).and_then(|mut addrs| addrs.remove(key)) {
            return addr;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Replaces a chosen-by-the-system port in the command line by the one that was chosen. False when
/// the role never announced itself.
pub(super) fn pin(launch: &mut Launch, layout: &Layout) -> bool {
    let Some(addrs) = read(layout, launch.role) else { return false };
    let main = addrs.get("http").or_else(|| addrs.get("service"));
    if let Some(addr) = main.and_then(|addr| addr.parse::<SocketAddr>().ok()) {
        for arg in &mut launch.args {
            for flag in ["--http-addr=", "--service-addr=https://"] {
                if arg.starts_with(flag) {
                    *arg = format!("{flag}{addr}");
                }
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chosen_port_is_kept_over_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::make(folder.path()).unwrap();
        let mut launch = Launch {
            role: Role::Signer,
            program: "signer".into(),
            args: [
                "--http-addr=127.0.0.1:0",
                "--service-addr=https://127.0.0.1:0",
                "--nvidia=none",
            ]
            .map(str::to_owned)
            .to_vec(),
        };
        assert!(!pin(&mut launch, &layout), "nothing was announced");
        std::fs::write(layout.addrs(Role::Signer), r#"{"http":"127.0.0.1:4321"}"#).unwrap();
        assert!(pin(&mut launch, &layout));
        assert_eq!(
            launch.args,
            [
                "--http-addr=127.0.0.1:4321",
                "--service-addr=https://127.0.0.1:4321",
                "--nvidia=none"
            ]
        );
    }
}
