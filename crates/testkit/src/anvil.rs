//! A chain of a test's own: anvil with the contracts of `tests/contracts`. It can be stopped and started again with all
//! that it knows; it dies with the value and with the thread that started it.
//!
//! As on Arbitrum, the height of L1, by which rounds and offers are counted, is not the height of this chain: it moves
//! only when a test says so, however many transactions there are.

use crate::{places, until::DEADLINE, until_some};
use penstock_domain::{Address, B256, U256, keccak256, parse_address};
use serde_json::{Value, json};
use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU8, Ordering},
    time::Instant,
};
use tempfile::TempDir;

/// Its number as a chain.
pub const CHAIN_ID: u64 = 31_337;
/// L1 blocks in a round.
pub const ROUND_LENGTH: u64 = 100;

/// The chain.
#[derive(Debug)]
pub struct Anvil {
    folder: TempDir,
    child: Option<Child>,
    addr: String,
    more: Vec<String>,
    network: Address,
    controller: Address,
    starts: u32,
}

/// An address of this machine that nobody else takes ports of: one that was started again finds its own free.
fn own_host() -> Ipv4Addr {
    static STARTED: AtomicU8 = AtomicU8::new(0);
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 128 + STARTED.fetch_add(1, Ordering::Relaxed) % 100, high, low.clamp(1, 254))
}

impl Anvil {
    /// Starts it and deploys the contracts; blocks are made for transactions as they come.
    pub async fn start() -> Self {
        Self::start_with(ROUND_LENGTH, &[]).await
    }

    /// The same with rounds of another length and more flags for anvil.
    pub async fn start_with(round_length: u64, more: &[&str]) -> Self {
        let mut anvil = Self {
            folder: tempfile::tempdir().expect("a folder"),
            child: None,
            addr: format!("{}:0", own_host()),
            more: more.iter().map(|flag| (*flag).to_owned()).collect(),
            network: Address::ZERO,
            controller: Address::ZERO,
            starts: 0,
        };
        anvil.start_again().await;
        let code = std::fs::read_to_string(places::contracts()).expect("the contracts");
        let from = anvil.banker();
        let data = format!("0x{}{round_length:064x}", code.trim());
        let receipt = anvil.sent(&json!({ "from": from, "data": data, "gas": "0x1c9c380" }));
        let network = receipt["contractAddress"].as_str().and_then(parse_address);
        anvil.network = network.expect("the contracts are made");
        anvil.controller = anvil.address_of("controller()");
        anvil
    }

    /// `http://127.0.0.1:1234`
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// What finds the other contracts.
    pub fn controller(&self) -> Address {
        self.controller
    }

    /// The registry for AI.
    pub fn ai_service_registry(&self) -> Address {
        self.address_of("aiServiceRegistry()")
    }

    /// What says the price of an ether.
    pub fn price_feed(&self) -> Address {
        self.address_of("priceFeed()")
    }

    /// What makes polls.
    pub fn poll_creator(&self) -> Address {
        self.address_of("pollCreator()")
    }

    /// The poll that was started last.
    pub fn poll(&self) -> Address {
        self.address_of("poll()")
    }

    /// Gives an account ether (it has so much afterwards) and so many more tokens.
    pub fn give(&self, account: Address, wei: U256, lptu: U256) {
        self.rpc("anvil_setBalance", &json!([account.to_string(), format!("{wei:#x}")]));
        self.command("mintTokens(address,uint256)", &[account.into_word().into(), lptu]);
    }

    /// An account's ether.
    pub fn balance(&self, account: Address) -> U256 {
        let text = self.rpc("eth_getBalance", &json!([account.to_string(), "latest"]));
        number(&text)
    }

    /// What the gas of a transaction cost.
    pub fn gas_paid(&self, tx_hash: B256) -> U256 {
        let mined = self.rpc("eth_getTransactionReceipt", &json!([tx_hash.to_string()]));
        number(&mined["gasUsed"]) * number(&mined["effectiveGasPrice"])
    }

    /// Mines L1 blocks, initialising the rounds that begin.
    pub fn mine_blocks(&self, blocks: u64) {
        self.command("mineBlocks(uint256)", &[U256::from(blocks)]);
    }

    /// Mines to the first L1 block of the next round, and initialises it if so asked.
    pub fn next_round(&self, initialize: bool) {
        self.command("nextRound(bool)", &[U256::from(u64::from(initialize))]);
    }

    /// Stops all contracts, or lets them go on.
    pub fn pause(&self, paused: bool) {
        self.command("pause(bool)", &[U256::from(u64::from(paused))]);
    }

    /// Has the contracts' owner call one of them.
    pub fn command(&self, signature: &str, words: &[U256]) {
        let data = calldata(signature, words);
        let call = json!({ "from": self.banker(), "to": self.network.to_string(), "data": data });
        let receipt = self.sent(&call);
        assert_eq!(receipt["status"], "0x1", "{signature}: {receipt}");
    }

    /// Asks the chain; an error ends the test.
    pub fn rpc(&self, method: &str, params: &Value) -> Value {
        let answer = self.ask(method, params);
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// What it says to a question that it refuses; an answer ends the test.
    pub fn refusal(&self, method: &str, params: &Value) -> String {
        let answer = self.ask(method, params);
        let message = answer["error"]["message"].as_str();
        message.unwrap_or_else(|| panic!("{method}: {answer}")).to_owned()
    }

    /// Stops it; what it knows is on the disk.
    pub async fn stop(&mut self) {
        let child = self.child.as_mut().expect("it runs");
        // It writes its state when it is interrupted, not when it is killed.
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill").success());
        until_some("anvil ends", || {
            let ended = child.try_wait().expect("its end");
            async move { ended }
        })
        .await;
        self.child = None;
    }

    /// Starts it where it was, with what it knew.
    pub async fn start_again(&mut self) {
        self.starts += 1;
        let log = self.folder.path().join(format!("log-{}", self.starts));
        let (host, port) = self.addr.rsplit_once(':').expect("a port");
        let out = File::create(&log).expect("a log");
        let errors = out.try_clone().expect("a second handle");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(places::anvil());
        command.args(["--host", host, "--port", port, "--auto-impersonate"]);
        command.args(["--preserve-historical-states", "--state"]);
        command.arg(self.folder.path().join("state.json")).args(&self.more);
        // Nothing of it beside what the test has made.
        command.env("HOME", self.folder.path());
        let child = command.stdin(Stdio::null()).stdout(out).stderr(errors).spawn();
        let mut child = child.expect("anvil starts");
        self.addr = until_some("anvil listens", || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let ended = child.try_wait().ok().flatten();
            assert!(ended.is_none(), "anvil ended ({ended:?}):\n{text}");
            let (_, rest) = text.split_once("Listening on ").unwrap_or_default();
            let found = rest.split_once(char::is_whitespace).map(|(addr, _)| addr.to_owned());
            async move { found }
        })
        .await;
        self.child = Some(child);
    }

    fn address_of(&self, signature: &str) -> Address {
        let call = json!({ "to": self.network.to_string(), "data": calldata(signature, &[]) });
        let word = self.rpc("eth_call", &json!([call, "latest"]));
        Address::from_word(number(&word).into())
    }

    /// One of the accounts that anvil itself has, and has money on.
    fn banker(&self) -> Value {
        self.rpc("eth_accounts", &json!([]))[0].clone()
    }

    /// Sends as anybody and waits for the block.
    fn sent(&self, call: &Value) -> Value {
        // What anvil would offer by itself is no offer where the base fee is almost nothing.
        let mut call = call.clone();
        call["maxPriorityFeePerGas"] = "0x3b9aca00".into();
        call["maxFeePerGas"] = "0x2540be400".into();
        let hash = self.rpc("eth_sendTransaction", &json!([call]));
        let began = Instant::now();
        loop {
            let receipt = self.rpc("eth_getTransactionReceipt", &json!([hash]));
            if !receipt.is_null() {
                return receipt;
            }
            assert!(began.elapsed() < DEADLINE, "{hash} is in no block");
            // Each look is a question over the network.
            std::thread::yield_now();
        }
    }

    fn ask(&self, method: &str, params: &Value) -> Value {
        let body =
            json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let mut socket = TcpStream::connect(&self.addr).expect("anvil answers");
        socket.set_read_timeout(Some(DEADLINE)).expect("a deadline");
        let head = format!(
            "POST / HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.addr,
            body.len()
        );
        socket.write_all(head.as_bytes()).expect("a request is sent");
        socket.write_all(body.as_bytes()).expect("a request is sent");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("an answer");
        let (_, json) = answer.split_once("\r\n\r\n").expect("an answer with a body");
        serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn calldata(signature: &str, words: &[U256]) -> String {
    let mut data = keccak256(signature)[..4].to_vec();
    for word in words {
        data.extend_from_slice(&word.to_be_bytes::<32>());
    }
    format!("0x{}", hex::encode(data))
}

fn number(text: &Value) -> U256 {
    let text = text.as_str().expect("a number");
    U256::from_str_radix(text.trim_start_matches("0x"), 16).expect("a number")
}
