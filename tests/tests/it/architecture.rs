//! The layout's arrows, read from `cargo metadata`: docs/ARCHITECTURE.md draws them, this fails
//! when an import breaks one.

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

const ROLES: [&str; 4] =
    ["penstock-gateway", "penstock-signer", "penstock-orchestrator", "penstock-worker"];

/// Whoever runs the roles' code in one process to see whether it is right, and imports them for that.
const OUTSIDE: [&str; 2] = ["penstock-fuzz", "penstock-simulator"];

/// Crates of ours that are plumbing: anything may use them, they use at most each other.
const PLUMBING: [&str; 6] = [
    "penstock-config",
    "penstock-confine",
    "penstock-failpoint",
    "penstock-heap",
    "penstock-http-kit",
    "penstock-telemetry",
];

fn workspace_root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn metadata() -> Metadata {
    // Only this machine's platform: the others' packages were never downloaded.
    let platform = format!("--filter-platform={}", host());
    MetadataCommand::new()
        .manifest_path(workspace_root().join("Cargo.toml"))
        .other_options(vec!["--offline".into(), "--locked".into(), platform])
        .exec()
        .expect("cargo metadata")
}

fn host() -> String {
    let output = std::process::Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let text = String::from_utf8(output.stdout).expect("rustc prints text");
    let line = text.lines().find_map(|l| l.strip_prefix("host: ")).expect("rustc names its host");
    line.to_owned()
}

/// Everything that `package` links into a shipped binary: normal and build dependencies,
/// followed to the end; dev-dependencies do not count.
fn reach(metadata: &Metadata, package: &str) -> BTreeSet<String> {
    let resolve = metadata.resolve.as_ref().expect("a resolved graph");
    let by_id: BTreeMap<_, _> = resolve.nodes.iter().map(|n| (&n.id, n)).collect();
    let names: BTreeMap<_, _> =
        metadata.packages.iter().map(|p| (&p.id, p.name.as_str())).collect();
    let start = metadata.packages.iter().find(|p| p.name.as_str() == package).expect(package);
    let mut seen = BTreeSet::new();
    let mut queue = vec![&start.id];
    while let Some(id) = queue.pop() {
        for dep in &by_id[id].deps {
            let linked = dep.dep_kinds.iter().any(|k| k.kind == DependencyKind::Normal);
            if linked && seen.insert(names[&dep.pkg].to_owned()) {
                queue.push(&dep.pkg);
            }
        }
    }
    seen
}

/// What `package` names itself, dev-dependencies left out.
fn direct(package: &Package) -> impl Iterator<Item = &str> {
    package
        .dependencies
        .iter()
        .filter(|d| d.kind != DependencyKind::Development)
        .map(|d| d.name.as_str())
        .filter(|name| name.starts_with("penstock"))
}

fn forbid(metadata: &Metadata, package: &str, forbidden: &[&str]) {
    let reached = reach(metadata, package);
    assert!(reached.len() > 10, "{package}: the walk found only {reached:?}");
    for name in &reached {
        let broken = forbidden.iter().any(|f| name == f || name.starts_with(&format!("{f}-")));
        assert!(!broken, "{package} must not reach {name}");
    }
}

#[test]
fn the_gateway_reaches_no_private_key_and_no_database() {
    let forbidden = [
        "penstock-keys",
        "penstock-ledger",
        "penstock-chain",
        "sqlx",
        "libsqlite3",
        "alloy-signer",
        "eth-keystore",
    ];
    forbid(&metadata(), "penstock-gateway", &forbidden);
}

#[test]
fn the_worker_knows_no_money() {
    let forbidden =
        ["penstock-payments", "penstock-keys", "penstock-ledger", "penstock-chain", "sqlx"];
    forbid(&metadata(), "penstock-worker", &forbidden);
}

#[test]
fn roles_never_import_roles() {
    let metadata = metadata();
    for package in &metadata.workspace_packages() {
        let name = package.name.as_str();
        let all = package.dependencies.iter().map(|d| d.name.as_str());
        for dependency in all {
            assert!(!OUTSIDE.contains(&dependency), "{name} imports {dependency}");
            if OUTSIDE.contains(&name) {
                continue;
            }
            assert!(
                !ROLES.contains(&dependency) || dependency == name,
                "{name} imports the role {dependency}; roles meet over sockets",
            );
        }
    }
}

#[test]
fn arrows_point_inwards() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("penstock-domain", &[][..]),
        ("penstock-wire", &["penstock-domain"]),
        ("penstock-payments", &["penstock-domain"]),
        ("penstock-selection", &["penstock-domain"]),
        ("penstock-instructions", &["penstock-domain", "penstock-payments"]),
        ("penstock-keys", &["penstock-domain", "penstock-payments"]),
        ("penstock-keys-kms", &["penstock-domain", "penstock-keys", "penstock-payments"]),
        ("penstock-keys-pkcs11", &["penstock-domain", "penstock-keys", "penstock-payments"]),
        ("penstock-keys-vault", &["penstock-domain", "penstock-keys", "penstock-payments"]),
        ("penstock-store", &["penstock-domain"]),
        ("penstock-ledger", &["penstock-chain", "penstock-domain", "penstock-payments"]),
        ("penstock-chain", &["penstock-domain", "penstock-payments"]),
        (
            "penstock-chain-ethereum",
            &["penstock-chain", "penstock-domain", "penstock-keys", "penstock-payments"],
        ),
        ("penstock-chain-anvil", &["penstock-domain"]),
        ("penstock-clients", &["penstock-domain", "penstock-wire"]),
        ("penstock-oidc", &["penstock-clients", "penstock-domain"]),
        ("penstock-trickle", &["penstock-clients"]),
        ("penstock-containers", &[]),
        ("penstock-config", &[]),
        ("penstock-failpoint", &[]),
        ("penstock-heap", &[]),
        ("penstock-http-kit", &["penstock-telemetry"]),
        ("penstock-telemetry", &["penstock-config"]),
        ("penstock-confine", &[]),
    ]);
    for package in &metadata().workspace_packages() {
        let Some(allowed) = allowed.get(package.name.as_str()) else { continue };
        for dependency in direct(package) {
            assert!(
                allowed.contains(&dependency)
                    || (PLUMBING.contains(&dependency)
                        && !PLUMBING.contains(&package.name.as_str())),
                "{} imports {dependency}, which docs/ARCHITECTURE.md does not allow",
                package.name,
            );
        }
    }
}

#[test]
fn roles_import_only_what_the_layout_gives_them() {
    let money = [
        "penstock-keys",
        "penstock-ledger",
        "penstock-chain",
        "penstock-chain-devnet",
        "penstock-chain-ethereum",
    ];
    let common = ["penstock-domain", "penstock-wire", "penstock-clients"];
    let homes = ["penstock-keys-kms", "penstock-keys-pkcs11", "penstock-keys-vault"];
    let extra: BTreeMap<&str, Vec<&str>> = BTreeMap::from([
        (
            "penstock-gateway",
            vec![
                "penstock-oidc",
                "penstock-payments",
                "penstock-selection",
                "penstock-store",
                "penstock-trickle",
            ],
        ),
        (
            "penstock-signer",
            [&money[..], &homes, &["penstock-oidc", "penstock-payments", "penstock-selection"]]
                .concat(),
        ),
        (
            "penstock-orchestrator",
            [&money[..], &["penstock-payments", "penstock-selection", "penstock-trickle"]].concat(),
        ),
        ("penstock-worker", vec!["penstock-containers", "penstock-trickle"]),
    ]);
    for package in &metadata().workspace_packages() {
        let Some(extra) = extra.get(package.name.as_str()) else { continue };
        for dependency in direct(package) {
            let ok = common.contains(&dependency)
                || PLUMBING.contains(&dependency)
                || extra.contains(&dependency);
            assert!(ok, "{} imports {dependency}", package.name);
        }
    }
}

/// Cargo cannot tell a package's binary from its library, so the adapter's name is looked for in
/// the text: a backend is chosen in `main.rs` (or its `wiring.rs`) and nowhere else.
#[test]
fn adapters_are_named_at_the_edge_only() {
    for role in ["signer", "orchestrator"] {
        let mut files = vec![workspace_root().join(role).join("src")];
        while let Some(path) = files.pop() {
            if path.is_dir() {
                files.extend(std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
                continue;
            }
            let edge = ["main.rs", "wiring.rs"].iter().any(|e| path.ends_with(e));
            let text = std::fs::read_to_string(&path).unwrap();
            // What is set of an adapter is a role's setting; the adapter itself is chosen at the edge.
            let adapters = ["penstock_chain_devnet", "EthereumChain"];
            let mut code = text.lines().filter(|l| !l.trim_start().starts_with("//"));
            let named = code.any(|l| adapters.iter().any(|a| l.contains(a)));
            assert!(
                edge || !named,
                "{} names an adapter; do it in main.rs or wiring.rs",
                path.display()
            );
        }
    }
}

#[test]
fn every_crate_is_under_the_workspace_lints() {
    for package in &metadata().workspace_packages() {
        let manifest: String = std::fs::read_to_string(&package.manifest_path).unwrap();
        assert!(
            manifest.contains("[lints]\nworkspace = true"),
            "{} has no `[lints] workspace = true`",
            package.name,
        );
        assert!(
            !package.description.as_deref().unwrap_or_default().is_empty(),
            "{}: no description",
            package.name
        );
    }
}
