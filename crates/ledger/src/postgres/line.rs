//! A line to PostgreSQL that tests cut, as when the server's host dies: no error, no end of
//! connection.

use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader, copy},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Between the ledger and the server. Connections from before a cut stay silent for good, those
/// made while it lasts too.
pub struct Line {
    state: Arc<watch::Sender<State>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// How often it was cut.
    cuts: u32,
    is_cut: bool,
    /// After so many more answers it is cut by itself.
    answers_left: Option<u32>,
}

impl State {
    fn cut(&mut self) {
        *self = Self { cuts: self.cuts.saturating_add(1), is_cut: true, answers_left: None };
    }
}

impl Line {
    /// A line to the server of `url`, and the database's URL over it.
    pub async fn to(url: &str) -> (Self, String) {
        let (_, place) = url.rsplit_once('@').unwrap();
        let (server, _) = place.split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        // Without the question for TLS, whose answer has a form of its own.
        let url = format!("{}?sslmode=disable", url.replace(server, &addr));
        let state = Arc::new(watch::Sender::new(State::default()));
        let (line, server) = (Arc::clone(&state), server.to_owned());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, server.clone(), Arc::clone(&line)));
            }
        });
        (Self { state }, url)
    }

    pub fn cut(&self) {
        self.state.send_modify(State::cut);
    }

    /// Cuts it when the server has answered so many more questions.
    pub fn cut_after(&self, answers: u32) {
        if answers == 0 {
            return self.cut();
        }
        self.state.send_modify(|state| state.answers_left = Some(answers));
    }

    /// For new connections.
    pub fn mend(&self) {
        self.state.send_modify(|state| state.is_cut = false);
    }

    /// Waits until it is.
    pub async fn is_cut(&self) {
        self.state.subscribe().wait_for(|state| state.is_cut).await.unwrap();
    }
}

async fn carry(client: TcpStream, server: String, line: Arc<watch::Sender<State>>) {
    let mut seen = line.subscribe();
    let at_first = *seen.borrow_and_update();
    // Answers consist of small messages.
    client.set_nodelay(true).unwrap();
    let (mut questions, mut to_client) = client.into_split();
    if !at_first.is_cut {
        let (answers, mut to_server) = TcpStream::connect(server).await.unwrap().into_split();
        let mut answers = BufReader::new(answers);
        tokio::select! {
            _ = seen.wait_for(|state| state.cuts > at_first.cuts) => {}
            _ = copy(&mut questions, &mut to_server) => return,
            () = carry_answers(&mut answers, &mut to_client, &line) => return,
        }
    }
    // Silent, but open; to the server it is gone.
    while questions.read_u8().await.is_ok() {}
}

/// Message by message, so that a cut comes between two of them.
async fn carry_answers(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    line: &watch::Sender<State>,
) {
    loop {
        let mut head = [0; 5];
        if from.read_exact(&mut head).await.is_err() {
            return;
        }
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let mut body = vec![0; usize::try_from(length).unwrap() - 4];
        if from.read_exact(&mut body).await.is_err()
            || to.write_all(&[&head[..], &body].concat()).await.is_err()
        {
            return;
        }
        // "Ready for query": the answer's end.
        if head[0] == b'Z' {
            line.send_if_modified(|state| {
                let Some(left) = state.answers_left else { return false };
                state.answers_left = left.checked_sub(1).filter(|left| *left > 0);
                if state.answers_left.is_none() {
                    state.cut();
                }
                true
            });
        }
    }
}
