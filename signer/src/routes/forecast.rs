//! `GET /v1/forecast` and `GET /v1/limits`: where spending leads, and what bounds it.

use super::{
    AppState,
    views::{self, moment},
};
use crate::{
    auth::{
        Budget, Policy, client_of,
        forecast::{self, Known},
    },
    error::SignerError,
};
use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use penstock_domain::{Rational, Wei};
use penstock_ledger::signer::{CounterKey, Day, Hour, Month, UsageQuery};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};
use time::OffsetDateTime;
use tokio::sync::mpsc;
use utoipa::ToSchema;

const DAY_MS: i64 = 86_400_000;
/// Most accounts in one answer.
const MAX_ACCOUNTS: usize = 1_000;
/// Lines of usage that wait to be added up.
const LINES: usize = 256;

#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    account: Option<String>,
}

/// One period of one account.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PeriodView {
    /// When it ends, RFC 3339.
    ends_at: String,
    /// Charged so far, wei; payments under way included.
    charged_wei: String,
    /// The budget in wei, at the ether price of the moment; null for none, or if it is in dollars and
    /// the price is not known.
    budget_wei: Option<String>,
    /// Charged at the end if spending goes on like this.
    projected_wei: String,
    /// When the budget is used up, if that is before the end.
    runs_out_at: Option<String>,
}

/// Where one account's spending leads.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ForecastView {
    account: String,
    /// Charged in a day, over the last seven days.
    rate_wei_per_day: String,
    day: PeriodView,
    month: PeriodView,
}

/// Spending so far, its rate, where it leads, and when budgets run out: of one account, or of all that
/// spent something in the last seven days (the first 1000 by name).
#[utoipa::path(
    get,
    path = "/v1/forecast",
    params(("account" = Option<String>, Query, description = "Of this account only.")),
    responses(
        (status = 200, body = Vec<ForecastView>),
        (status = 400, body = views::ErrorBody),
        (status = 401, body = views::ErrorBody),
        (status = 404, body = views::ErrorBody),
        (status = 503, body = views::ErrorBody),
    ),
    security((), ("bearer" = [])),
)]
pub(super) async fn forecast(
    State(state): State<AppState>,
    query: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Vec<ForecastView>>, SignerError> {
    let Query(asked) = query.map_err(|e| SignerError::BadField(e.body_text()))?;
    let now_ms = state.accounts.now_ms();
    let since_ms = forecast::window_start_ms(now_ms);
    let query = UsageQuery { from_ms: since_ms, to_ms: now_ms.saturating_add(1), account: None };
    let mut spent: BTreeMap<String, Wei> = BTreeMap::new();
    let (lines, mut read) = mpsc::channel(LINES);
    let ledger = Arc::clone(&state.signer.ledger);
    let reading = tokio::spawn(async move { ledger.usage(query, lines).await });
    while let Some(row) = read.recv().await {
        let client = row.auth_id.as_ref().map(client_of).filter(|client| *client != row.account);
        // What a gateway spends for another account is on both their bills.
        for name in core::iter::once(row.account.as_str()).chain(client) {
            let sum = spent.entry(name.to_owned()).or_default();
            *sum = sum.checked_add(row.charged_wei).unwrap_or(*sum);
        }
    }
    reading.await.map_err(|_| SignerError::Internal("the report ended badly"))??;
    let policies: BTreeMap<String, Policy> = {
        let directory = state.accounts.follower().fresh().await?;
        let policy = |name: &str| directory.account(name).map(|(_, policy)| policy.cloned());
        if let Some(name) = &asked.account {
            if policy(name).is_none() && !spent.contains_key(name) {
                return Err(SignerError::NotFound(format!("there is no account {name:?}")));
            }
            spent.retain(|key, _| key == name);
            spent.entry(name.clone()).or_default();
        } else {
            // Subjects whose client is nobody here are on their gateway's bill only.
            spent.retain(|key, _| policy(key).is_some() || !key.contains(':'));
        }
        spent
            .keys()
            .take(MAX_ACCOUNTS)
            .map(|n| (n.clone(), policy(n).flatten().unwrap_or_default()))
            .collect()
    };
    let price = state.accounts.eth_usd().micro_usd_per_eth();
    let mut views = Vec::with_capacity(policies.len());
    for (name, policy) in &policies {
        let day = CounterKey::account_day(name, Day::of_ms(now_ms));
        let month = CounterKey::account_month(name, Month::of_ms(now_ms));
        let charged = state.signer.ledger.counters(&[day, month]).await?;
        let [day_wei, month_wei] = charged.try_into().unwrap_or_default();
        let rate = forecast::rate(spent.get(name).copied().unwrap_or_default(), since_ms, now_ms);
        let period = |spent_wei: Wei, budget: &Option<Budget>, end_ms: i64| {
            let cap_wei = budget.as_ref().and_then(|b| b.in_wei(price.as_ref()));
            let known = Known { now_ms, end_ms, spent_wei, cap_wei, rate: rate.clone() };
            let said = forecast::forecast(&known);
            PeriodView {
                ends_at: moment(end_ms),
                charged_wei: spent_wei.to_string(),
                budget_wei: cap_wei.map(|wei| wei.to_string()),
                projected_wei: said.projected_wei.to_string(),
                runs_out_at: said.runs_out_at_ms.map(moment),
            }
        };
        let day_end_ms = now_ms.saturating_sub(now_ms.rem_euclid(DAY_MS)).saturating_add(DAY_MS);
        let per_day = rate.clone() * Rational::from_int(i128::from(DAY_MS));
        views.push(ForecastView {
            account: name.clone(),
            rate_wei_per_day: per_day.to_fixed(0),
            day: period(day_wei, &policy.budget_day, day_end_ms),
            month: period(month_wei, &policy.budget_month, month_end_ms(now_ms)),
        });
    }
    Ok(Json(views))
}

/// The first moment of the next month, UTC.
fn month_end_ms(now_ms: i64) -> i64 {
    let next = || {
        let date = OffsetDateTime::from_unix_timestamp(now_ms.div_euclid(1_000)).ok()?.date();
        let first = date.replace_day(1).ok()?;
        let next = first.checked_add(time::Duration::days(32))?.replace_day(1).ok()?;
        next.midnight().assume_utc().unix_timestamp().checked_mul(1_000)
    };
    next().unwrap_or(now_ms)
}

/// The signer's own limits: the last line.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LimitsView {
    /// `--max-ticket-ev`
    max_ticket_ev_wei: String,
    /// `--max-total-ev`
    max_total_ev_wei: String,
    /// `--deposit-multiplier`
    deposit_multiplier: u64,
    /// `--max-tickets`
    max_tickets: u64,
    /// Most spend in an hour of the clock; null for no limit.
    spend_per_hour_wei: Option<String>,
    /// The same for one recipient.
    spend_per_orchestrator_hour_wei: Option<String>,
    /// Spent in this hour of the clock. Counted only while there is a limit.
    charged_this_hour_wei: String,
    /// Dollars for an ether, four decimals; null if not known or too old.
    eth_usd: Option<String>,
}

/// What bounds spending whoever asks, and how much of it is used.
#[utoipa::path(
    get,
    path = "/v1/limits",
    responses(
        (status = 200, body = LimitsView),
        (status = 401, body = views::ErrorBody),
        (status = 503, body = views::ErrorBody),
    ),
    security((), ("bearer" = [])),
)]
pub(super) async fn limits(State(state): State<AppState>) -> Result<Json<LimitsView>, SignerError> {
    let limits = &state.signer.limits;
    let hour = CounterKey::global_hour(Hour::of_ms(state.accounts.now_ms()));
    let charged = state.signer.ledger.counters(&[hour]).await?;
    let price = state.accounts.eth_usd().micro_usd_per_eth();
    let price = price.and_then(|p| p.checked_div(&Rational::from(1_000_000_u64)));
    Ok(Json(LimitsView {
        max_ticket_ev_wei: limits.sender.max_ev.to_string(),
        max_total_ev_wei: limits.sender.max_total_ev.to_string(),
        deposit_multiplier: limits.sender.deposit_multiplier.get(),
        max_tickets: limits.max_tickets,
        spend_per_hour_wei: limits.spend_per_hour.map(|wei| wei.to_string()),
        spend_per_orchestrator_hour_wei: limits
            .spend_per_orchestrator_hour
            .map(|wei| wei.to_string()),
        charged_this_hour_wei: charged.first().copied().unwrap_or_default().to_string(),
        eth_usd: price.map(|p| p.to_fixed(4)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_end_where_the_next_begins() {
        for (now, end) in [
            ("2026-11-21T12:00:00Z", "2026-12-01T00:00:00Z"),
            ("2026-12-31T23:59:59.999Z", "2027-01-01T00:00:00Z"),
            ("2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
            ("2026-01-31T00:00:00Z", "2026-02-01T00:00:00Z"),
        ] {
            let ms = |text: &str| {
                let at =
                    OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339);
                i64::try_from(at.unwrap().unix_timestamp_nanos() / 1_000_000).unwrap()
            };
            assert_eq!(month_end_ms(ms(now)), ms(end), "{now}");
        }
    }
}
