//! Why a contract said no, in its own words, and whether the same transaction may pass later.

use core::fmt;

macro_rules! reverts {
    ($($variant:ident $text:literal $finality:ident),* $(,)?) => {
        /// A revert of the TicketBroker or of what it calls (on-chain.md sections 3 and 5).
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Revert {
            $(#[doc = $text] $variant,)*
            /// A text this version does not know; treated as retryable.
            Other(String),
        }

        impl Revert {
            /// Every known one.
            pub const KNOWN: &'static [Self] = &[$(Self::$variant),*];

            /// The contract's text.
            pub fn text(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Other(text) => text,
                }
            }

            /// Whether the same transaction reverts for ever, so that retrying is pointless.
            pub fn is_final(&self) -> bool {
                match self {
                    $(Self::$variant => reverts!(@final $finality),)*
                    Self::Other(_) => false,
                }
            }

            /// From a revert text; never fails, at worst it is [`Self::Other`], cut to 256 bytes.
            pub fn from_text(text: &str) -> Self {
                match text {
                    $($text => Self::$variant,)*
                    other => Self::Other(other.chars().take(256).collect()),
                }
            }
        }
    };
    (@final never) => { true };
    (@final maybe) => { false };
}

reverts! {
    // redeemWinningTicket, in the order of its checks
    TargetNotRegistered "target contract must be registered" maybe,
    SystemPaused "system is paused" maybe,
    RoundNotInitialized "current round is not initialized" maybe,
    RecipientNull "ticket recipient is null address" never,
    SenderNull "ticket sender is null address" never,
    AuxDataLength "invalid length for ticket auxData: must be 64 bytes" never,
    NoBlockHash "ticket creationRound does not have a block hash" never,
    WrongBlockHash "ticket creationRoundBlockHash invalid for creationRound" never,
    Expired "ticket is expired" never,
    WrongRecipientRand "recipientRand does not match recipientRandHash" never,
    Used "ticket is used" never,
    SignatureLength "INVALID_SIGNATURE_LENGTH" never,
    SignatureS "ECDSA: invalid signature 's' value" never,
    Signature "ECDSA: invalid signature" never,
    WrongSigner "invalid signature over ticket hash" never,
    NotWinning "ticket did not win" never,
    SenderUnlocked "sender is unlocked" maybe,
    SenderEmpty "sender deposit and reserve are zero" maybe,
    NotRegistered "transcoder must be registered" maybe,
    NoStakeThisRound "Panic(0x12): division or modulo by zero" maybe,
    // Arithmetic of claimableReserve after the pool grew, or of a balance above 2^256 − 1.
    Arithmetic "Panic(0x11): arithmetic underflow or overflow" maybe,
    // unlock, cancelUnlock, withdraw
    UnlockInProgress "unlock already initiated" maybe,
    NoUnlock "no unlock request in progress" maybe,
    Locked "account is locked" maybe,
}

impl fmt::Display for Revert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_round_trip_and_differ() {
        for (i, revert) in Revert::KNOWN.iter().enumerate() {
            assert_eq!(&Revert::from_text(revert.text()), revert);
            assert!(Revert::KNOWN[..i].iter().all(|other| other.text() != revert.text()));
        }
    }

    #[test]
    fn an_unknown_text_is_kept_but_bounded() {
        assert_eq!(Revert::from_text("new rule"), Revert::Other("new rule".into()));
        assert_eq!(Revert::from_text(&"é".repeat(10_000)).text().chars().count(), 256);
        assert!(!Revert::from_text("new rule").is_final());
    }

    #[test]
    fn a_used_or_expired_ticket_is_not_tried_again_an_unfunded_one_is() {
        assert!(Revert::Used.is_final() && Revert::Expired.is_final());
        assert!(!Revert::SenderEmpty.is_final() && !Revert::NoStakeThisRound.is_final());
    }
}
