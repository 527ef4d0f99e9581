//! Heads of chains that an operator kept outside of the books.

use penstock_domain::B256;
use serde_json::Value;
use thiserror::Error;

/// The head of a chain, kept outside of the books.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub(super) chain: String,
    pub(super) seq: u64,
    pub(super) hash: B256,
}

/// There is no head in a heads file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("holds no audit head: expected CHAIN SEQ HASH, or the signer's log lines")]
pub struct NoHeads;

/// Reads kept heads: `CHAIN SEQ HASH`, or whole log lines, text or JSON. Other lines are passed over.
pub fn parse_heads(text: &str) -> Result<Vec<Head>, NoHeads> {
    let heads: Vec<Head> = text.lines().filter_map(parse_head).collect();
    if heads.is_empty() { Err(NoHeads) } else { Ok(heads) }
}

fn parse_head(line: &str) -> Option<Head> {
    if let Ok(Value::Object(map)) = serde_json::from_str(line) {
        let fields = map.get("fields").and_then(Value::as_object).unwrap_or(&map);
        let text = |key| fields.get(key).and_then(Value::as_str);
        let seq = fields.get("seq")?;
        let seq = seq.as_u64().or_else(|| seq.as_str()?.parse().ok())?;
        return head(text("chain")?, seq, text("hash")?);
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    if let [chain, seq, hash] = words.as_slice() {
        return head(chain, seq.parse().ok()?, hash);
    }
    let value = |key: &str| words.iter().find_map(|word| word.strip_prefix(key));
    head(value("chain=")?, value("seq=")?.parse().ok()?, value("hash=")?)
}

fn head(chain: &str, seq: u64, hash: &str) -> Option<Head> {
    let hash = penstock_domain::parse_b256(hash)?;
    Some(Head { chain: chain.to_owned(), seq, hash })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_from_what_operators_keep() {
        let hash = format!("0x{}", "5a".repeat(32));
        let lines = [
            format!("signer-1-ab 7 {hash}"),
            format!("2026-11-21T08:22:06Z  INFO audit head chain=signer-1-ab seq=7 hash={hash}"),
            format!(
                r#"{{"level":"INFO","fields":{{"message":"audit head","chain":"signer-1-ab","seq":7,"hash":"{hash}"}}}}"#
            ),
            format!(r#"{{"chain":"signer-1-ab","seq":"7","hash":"{hash}"}}"#),
        ];
        for line in lines {
            let text = format!("something else\n{line}\n");
            let head = Head { chain: "signer-1-ab".into(), seq: 7, hash: B256::repeat_byte(0x5a) };
            assert_eq!(parse_heads(&text), Ok(vec![head]), "{line}");
        }
        for bad in ["", "x", "a 7", "a b c", "chain=a seq=7 hash=0x00", "{}"] {
            assert_eq!(parse_heads(bad), Err(NoHeads), "{bad}");
        }
    }
}
