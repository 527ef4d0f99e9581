//! The devnet's JSON, as its client and its server share it. Amounts are decimal text, addresses
//! and hashes hex text; unknown members of a request are refused, of an answer ignored.

mod answers;
mod requests;
pub mod text;

pub use answers::{
    AccountView, ClaimView, ClaimableView, OrchestratorView, ReceiptView, RedemptionView,
    SenderView, Status, TicketView, Totals,
};
pub use requests::{
    Action, FundRequest, MineRequest, Payload, RedeemRequest, TicketBody, TransactionRequest,
};
