//! What a person sees when the network is up: where everything is, and what to try.
#![allow(clippy::print_stdout, reason = "this is the command's output")]

use std::collections::BTreeMap;

use super::{Layout, Role, addresses};

/// Prints the addresses and the first things to do.
pub(super) fn print(layout: &Layout) {
    print!("{}", text(layout));
}

/// One line, while starting and stopping.
pub(super) fn say(line: &str) {
    println!("{line}");
}

fn text(layout: &Layout) -> String {
    let of = |role| addresses::read(layout, role).unwrap_or_default();
    let get = |addrs: &BTreeMap<String, String>, key: &str| {
        addrs.get(key).cloned().unwrap_or_else(|| "-".to_owned())
    };
    let mut out = String::from("\nThe network is ready.\n\n");
    for (role, key, scheme) in [
        (Role::Gateway, "http", "http"),
        (Role::Signer, "http", "http"),
        (Role::Orchestrator, "service", "https"),
        (Role::Worker, "", ""),
        (Role::Devnet, "http", "http"),
    ] {
        let addrs = of(role);
        let url = match key {
            "" => "(opens no port to others)".to_owned(),
            key => format!("{scheme}://{}", get(&addrs, key)),
        };
        let metrics = get(&addrs, "metrics");
        let admin = addrs.get("admin").map(|a| format!("  admin http://{a}")).unwrap_or_default();
        out.push_str(&format!("  {role:<13} {url:<28} metrics http://{metrics}/metrics{admin}\n"));
    }
    let gateway = get(&of(Role::Gateway), "http");
    let data_dir = layout.root().display();
    let penstock = std::env::current_exe().unwrap_or_else(|_| "penstock".into());
    let penstock = penstock.display();
    out.push_str(&format!(
        "\n  data and logs {data_dir}\n\n\
         Try:\n  \
         curl -F audio=@speech.wav http://{gateway}/audio-to-text\n  \
         curl -T segment.ts http://{gateway}/live/demo/0.ts -o renditions.multipart\n  \
         open http://{gateway}/?stream=demo (player) or http://{gateway}/docs (API)\n  \
         {penstock} payments --data-dir {data_dir}\n\n\
         Ctrl-c stops it; what was earned and paid stays in the data folder.\n\n"
    ));
    out
}
