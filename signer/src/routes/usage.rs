//! `GET /v1/usage`: who used how much, day by day, as JSON or CSV.

mod stream;

use super::{AppState, views};
use crate::{auth::client_of, error::SignerError};
use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use http::header;
use penstock_ledger::signer::{Usage, UsageQuery};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use stream::Format;
use time::{
    Date, Duration, OffsetDateTime, format_description::BorrowedFormatItem,
    macros::format_description,
};
use utoipa::ToSchema;

const DATE: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]");
/// Longest time that one answer covers.
const MAX_DAYS: i64 = 366;

#[derive(Debug, Default, Deserialize)]
pub(super) struct UsageAsked {
    from: Option<String>,
    to: Option<String>,
    account: Option<String>,
    client: Option<String>,
    format: Option<String>,
}

/// What one account spent for one subject in one day.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UsageView {
    /// UTC.
    day: String,
    account: String,
    /// The part of the auth id before its first colon.
    client: Option<String>,
    auth_id: Option<String>,
    payments: u64,
    tickets: u64,
    /// Charged to the budgets, wei.
    charged_wei: String,
    /// Σ tickets × expected value, wei.
    ticket_ev_wei: String,
    /// Σ fees, wei.
    fee_wei: String,
    /// `fee_wei` is too large by less than this; 0: it is exact. Not in the CSV.
    fee_rounding_wei: u64,
}

impl From<Usage> for UsageView {
    fn from(usage: Usage) -> Self {
        Self {
            day: usage.day.to_string(),
            account: usage.account,
            client: usage.auth_id.as_ref().map(|id| client_of(id).to_owned()),
            auth_id: usage.auth_id.map(Into::into),
            payments: usage.payments,
            tickets: usage.tickets,
            charged_wei: usage.charged_wei.to_string(),
            ticket_ev_wei: usage.ticket_ev_wei.to_string(),
            fee_wei: usage.fee_wei.to_string(),
            fee_rounding_wei: usage.fee_rounding_wei,
        }
    }
}

/// Payments added up by account, subject and day (UTC).
#[utoipa::path(
    get,
    path = "/v1/usage",
    params(
        ("from" = Option<String>, Query, description = "First day, YYYY-MM-DD. The month's first when absent."),
        ("to" = Option<String>, Query, description = "Day after the last, at most 366 after the first. Tomorrow when absent."),
        ("account" = Option<String>, Query, description = "Of this account only."),
        ("client" = Option<String>, Query, description = "For auth ids of this client only, whoever named them."),
        ("format" = Option<String>, Query, description = "`json` or `csv`."),
    ),
    responses(
        (status = 200, content((Vec<UsageView> = "application/json"), (String = "text/csv"))),
        (status = 400, body = views::ErrorBody, description = "Names the parameter."),
        (status = 401, body = views::ErrorBody),
        (status = 503, body = views::ErrorBody),
    ),
    security((), ("bearer" = [])),
)]
pub(super) async fn usage(
    State(state): State<AppState>,
    query: Result<Query<UsageAsked>, QueryRejection>,
) -> Result<Response, SignerError> {
    let Query(asked) = query.map_err(|e| SignerError::BadField(e.body_text()))?;
    let csv = match asked.format.as_deref() {
        None | Some("json") => false,
        Some("csv") => true,
        Some(_) => return Err(SignerError::BadField("format: expected json or csv".to_owned())),
    };
    let (from_ms, to_ms) = span(&asked, state.accounts.now_ms())?;
    let account = asked.account.filter(|text| !text.is_empty());
    if account.as_ref().is_some_and(|name| name.len() > 64 || name.contains('\0')) {
        return Err(SignerError::BadField("account: there is no such name".to_owned()));
    }
    let format = if csv { Format::Csv } else { Format::Json };
    let ledger = Arc::clone(&state.signer.ledger);
    let query = UsageQuery { from_ms, to_ms, account };
    let body = stream::body(ledger, query, asked.client, format).await?;
    Ok(([(header::CONTENT_TYPE, format.content_type())], body).into_response())
}

/// The time asked for, Unix milliseconds.
fn span(asked: &UsageAsked, now_ms: i64) -> Result<(i64, i64), SignerError> {
    let bad = |field: &str, reason: &str| SignerError::BadField(format!("{field}: {reason}"));
    let today = OffsetDateTime::from_unix_timestamp(now_ms.div_euclid(1_000))
        .map_err(|_| SignerError::Internal("the clock shows no date"))?
        .date();
    let read = |field: &str, text: &Option<String>| match text.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => Date::parse(text, DATE)
            .ok()
            .filter(|date| (1970..=9000).contains(&date.year()))
            .map(Some)
            .ok_or_else(|| bad(field, "expected a day such as 2026-11-21")),
    };
    let from = read("from", &asked.from)?;
    let from = from.or_else(|| today.replace_day(1).ok()).unwrap_or(today);
    let to = read("to", &asked.to)?;
    let to = to.unwrap_or_else(|| today.saturating_add(Duration::DAY));
    let days = (to - from).whole_days();
    if !(1..=MAX_DAYS).contains(&days) {
        return Err(bad("to", &format!("has to be 1 to {MAX_DAYS} days after from")));
    }
    Ok((midnight_ms(from), midnight_ms(to)))
}

fn midnight_ms(date: Date) -> i64 {
    date.midnight().assume_utc().unix_timestamp().saturating_mul(1_000)
}

const CSV_HEADINGS: &str =
    "day,account,client,auth_id,payments,tickets,charged_wei,ticket_ev_wei,fee_wei\r\n";

/// RFC 4180.
fn csv_line(row: &UsageView) -> String {
    let cells = [
        &row.day,
        &row.account,
        row.client.as_ref().unwrap_or(&String::new()),
        row.auth_id.as_ref().unwrap_or(&String::new()),
        &row.payments.to_string(),
        &row.tickets.to_string(),
        &row.charged_wei,
        &row.ticket_ev_wei,
        &row.fee_wei,
    ]
    .map(|cell| csv_cell(cell));
    format!("{}\r\n", cells.join(","))
}

/// Quoted where it must be. A subject is somebody else's word: one that a spreadsheet would take
/// for a formula is quoted with a leading apostrophe.
fn csv_cell(cell: &str) -> String {
    let formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let guarded = if formula { format!("'{cell}") } else { cell.to_owned() };
    if formula || guarded.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", guarded.replace('"', "\"\""))
    } else {
        guarded
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2026-11-21T12:00:00Z
    const NOON_MS: i64 = 1_795_262_400_000;
    const DAY_MS: i64 = 86_400_000;

    fn asked(from: &str, to: &str) -> Result<(i64, i64), String> {
        let text = |t: &str| Some(t.to_owned());
        let asked = UsageAsked { from: text(from), to: text(to), ..UsageAsked::default() };
        span(&asked, NOON_MS).map_err(|e| e.to_string())
    }

    #[test]
    fn a_month_is_asked_for_unless_told() {
        let midnight = NOON_MS - DAY_MS / 2;
        assert_eq!(asked("", ""), Ok((midnight - 20 * DAY_MS, midnight + DAY_MS)));
        assert_eq!(asked("2026-11-20", "2026-11-21"), Ok((midnight - DAY_MS, midnight)));
        for (from, to, field) in [
            ("2026-11-21", "2026-11-21", "to"),
            ("2026-11-21", "2026-11-20", "to"),
            ("2024-01-01", "2026-01-01", "to"),
            ("2026-02-30", "", "from"),
            ("x", "", "from"),
            ("", "99999-01-01", "to"),
        ] {
            assert!(asked(from, to).unwrap_err().starts_with(field), "{from} {to}");
        }
    }

    #[test]
    fn cells_are_quoted_where_they_must_be() {
        for (cell, written) in [
            ("acme:bob", "acme:bob"),
            ("a,b", "\"a,b\""),
            ("a\"b", "\"a\"\"b\""),
            ("=1+1", "\"'=1+1\""),
            ("@x", "\"'@x\""),
            ("", ""),
        ] {
            assert_eq!(csv_cell(cell), written, "{cell}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]
        #[test]
        fn no_text_panics(from in ".{0,12}", to in "[0-9]{4}-[0-9]{2}-[0-9]{2}") {
            let _ = asked(&from, &to);
            let _ = asked(&to, &from);
        }
    }
}
