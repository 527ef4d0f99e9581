//! Who the primary is. All sentinels are asked side by side, each answer is held to what the server says
//! that it names, and the first that is true counts: a sentinel that says nothing holds nobody up.

use super::{
    connect::{Connection, Way, address, credentials, no_address},
    options::RedisOptions,
};
use futures::{StreamExt as _, stream::FuturesUnordered};
use redis::{Cmd, ErrorKind, RedisConnectionInfo, RedisError, RedisResult, Value};

/// The way to the primary of that name, and a connection on which it said that it is one.
pub(super) async fn primary(
    options: &RedisOptions,
    master: &str,
) -> RedisResult<(Way, Connection)> {
    let nodes = options.url.nodes.iter();
    let mut asked: FuturesUnordered<_> =
        nodes.map(|node| named_by(options, master, node)).collect();
    let mut why = no_address();
    while let Some(answer) = asked.next().await {
        match answer {
            Ok(found) => return Ok(found),
            Err(error) => why = error,
        }
    }
    Err(why)
}

async fn named_by(
    options: &RedisOptions,
    master: &str,
    node: &str,
) -> RedisResult<(Way, Connection)> {
    let addr = address(node, options.url.tls)?;
    let sentinel = Way::to(options, addr, RedisConnectionInfo::default())?;
    let mut sentinel = sentinel.go(options.timeout).await?;
    let mut question = redis::cmd("SENTINEL");
    question.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
    let answer = match sentinel.command(&question).await {
        Err(error) if error.code() == Some("NOAUTH") => {
            sentinel.command(&shown_to_sentinels(options)?).await.map_err(refused)?;
            sentinel.command(&question).await?
        }
        other => other?,
    };
    let named: Option<(String, u16)> = redis::from_redis_value(answer)?;
    let (host, port) = named.ok_or_else(unknown)?;
    // An address of IPv6 has colons, too.
    let way = Way::to(
        options,
        address(&format!("{host}:{port}"), options.url.tls)?,
        credentials(options),
    )?;
    let mut connection = way.go(options.timeout).await?;
    let role = connection.command(&redis::cmd("ROLE")).await?;
    match &role {
        Value::Array(words) if words.first() == Some(&Value::BulkString(b"master".to_vec())) => {
            Ok((way, connection))
        }
        _ => {
            Err((ErrorKind::Server(redis::ServerErrorKind::ReadOnly), "the named primary is none")
                .into())
        }
    }
}

/// A password goes only to a sentinel that asks for one; unless it has its own, that of the servers,
/// which sentinels have anyway.
fn shown_to_sentinels(options: &RedisOptions) -> RedisResult<Cmd> {
    let password = options.sentinel_password.as_ref().or(options.password.as_ref());
    let password = password.ok_or_else(|| {
        RedisError::from((ErrorKind::AuthenticationFailed, "a sentinel wants a password"))
    })?;
    let mut auth = redis::cmd("AUTH");
    auth.arg(password);
    Ok(auth)
}

fn refused(_: RedisError) -> RedisError {
    (ErrorKind::AuthenticationFailed, "a sentinel refuses the password").into()
}

fn unknown() -> RedisError {
    (ErrorKind::InvalidClientConfig, "a sentinel knows no primary of that name").into()
}
