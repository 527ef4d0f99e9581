//! What else may stand before an orchestrator: nginx, HAProxy, and the least that a proxy can be in
//! the gateway's own HTTP library. All take HTTP and speak TLS to the orchestrator, as a gateway does.

use super::Settings;
use crate::fleet::{free_port, own_host};
use axum::{Router, body::Body, extract::Request, response::Response};
use penstock_testkit::{Process, Spec, places, until_ok};
use std::{collections::BTreeMap, fs, net::SocketAddr, path::Path};

/// A running proxy.
pub struct Proxy {
    pub name: &'static str,
    pub url: String,
    process: Process,
}

impl Proxy {
    /// The process that works.
    pub fn pids(&self) -> Vec<u32> {
        vec![self.process.pid()]
    }
}

/// Each, before the orchestrator at this URI.
pub async fn all(settings: &Settings, to: &str, folder: &Path) -> Vec<Proxy> {
    let upstream = to.trim_start_matches("https://");
    let host = own_host();
    let haproxy = free_port(host);
    let haproxy_file = folder.join("bench-haproxy.cfg");
    fs::write(
        &haproxy_file,
        format!(
            "defaults\n mode http\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
             listen bench\n bind {haproxy}\n server o {upstream} ssl verify none\n"
        ),
    )
    .unwrap();
    let nginx = free_port(host);
    let nginx_file = folder.join("bench-nginx.conf");
    fs::write(
        &nginx_file,
        format!(
            "daemon off;\nmaster_process off;\nerror_log stderr warn;\npid {};\n\
             events {{ worker_connections 4096; }}\nhttp {{\n access_log off;\n\
             client_max_body_size 300m;\n client_body_buffer_size 1m;\n\
             upstream o {{ server {upstream}; keepalive 256; }}\n\
             server {{\n listen {nginx};\n location / {{\n proxy_pass https://o;\n\
             proxy_http_version 1.1;\n proxy_set_header Connection \"\";\n }} }} }}\n",
            folder.join("bench-nginx.pid").display()
        ),
    )
    .unwrap();
    let bare = free_port(host);
    let text = |path: &Path| path.display().to_string();
    let haproxy_args = vec!["-db".to_owned(), "-f".to_owned(), text(&haproxy_file)];
    let nginx_args = vec!["-c".to_owned(), text(&nginx_file)];
    let bare_args = vec!["bare-proxy".to_owned(), format!("--listen={bare}"), format!("--to={to}")];
    let mut proxies = Vec::new();
    for (name, program, args, at) in [
        ("HAProxy", places::program("haproxy"), haproxy_args, haproxy),
        ("nginx", places::program("nginx"), nginx_args, nginx),
        ("a bare proxy (axum, reqwest)", settings.own.clone(), bare_args, bare),
    ] {
        let short = name.split(' ').next_back().unwrap_or(name).trim_matches(['(', ')']);
        let spec = Spec { name: format!("bench-{short}"), program, args, env: BTreeMap::new() };
        let mut process = Process::new(spec, folder);
        process.spawn();
        until_ok(&format!("{name} listens"), || async {
            let tried = tokio::net::TcpStream::connect(at).await;
            tried.map(|_| ()).map_err(|error| error.to_string())
        })
        .await;
        proxies.push(Proxy { name, url: format!("http://{at}"), process });
    }
    proxies
}

/// The bare proxy: every request goes on as it came, bodies unbuffered.
pub async fn bare(listen: SocketAddr, to: String) {
    penstock_http_kit::tls::install_crypto_provider();
    let http = reqwest::Client::builder()
        .no_proxy()
        .danger_accept_invalid_certs(true)
        .http1_only()
        .pool_max_idle_per_host(256)
        .build()
        .unwrap();
    let forward = move |request: Request| {
        let (http, to) = (http.clone(), to.clone());
        async move {
            let (head, body) = request.into_parts();
            let mut headers = head.headers;
            for hop in ["host", "connection", "transfer-encoding"] {
                headers.remove(hop);
            }
            let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
            let sent = http
                .request(head.method, format!("{to}{path}"))
                .headers(headers)
                .body(reqwest::Body::wrap_stream(body.into_data_stream()));
            let answer = sent.send().await.expect("an answer");
            let mut response = Response::new(Body::empty());
            *response.status_mut() = answer.status();
            *response.headers_mut() = answer.headers().clone();
            *response.body_mut() = Body::from_stream(answer.bytes_stream());
            response
        }
    };
    let listener = tokio::net::TcpListener::bind(listen).await.expect("the address is free");
    axum::serve(listener, Router::new().fallback(forward)).await.expect("serving");
}
