//! Transactions of Ethereum (EIP-1559) that call the network's contracts: the calls that Penstock makes, by name,
//! and no others. A plain transfer, a new contract or any other call is refused, and ether goes along only where a
//! deposit or a reserve is funded. So whoever can have transactions signed still cannot empty the account. One that sends
//! nothing to the account itself is signed too: it takes the number of another one that should not come any more.
//!
//! The preimage begins with the type byte 2 and is hashed as it is, without the prefix that every message of the
//! network has: it cannot be a ticket.

use crate::Refusal;
use alloy_rlp::{EMPTY_LIST_CODE, Encodable, Header};
use penstock_domain::{Address, B256, U256, Wei, be_bytes, keccak256};
use penstock_payments::Signature;

/// Most bytes of call data: go-ethereum takes no larger transaction than 128 KiB into its pool.
pub const MAX_CALL_DATA_BYTES: usize = 120 << 10;

/// The type byte of EIP-1559.
const TYPE: u8 = 2;

/// Every call that is signed, in the contracts' own words, and whether ether may go along.
const CALLS: [(&str, bool); 31] = [
    // TicketBroker
    ("fundDeposit()", true),
    ("fundReserve()", true),
    ("fundDepositAndReserve(uint256,uint256)", true),
    ("fundDepositAndReserveFor(address,uint256,uint256)", true),
    ("unlock()", false),
    ("cancelUnlock()", false),
    ("withdraw()", false),
    (
        "redeemWinningTicket((address,address,uint256,uint256,uint256,bytes32,bytes),bytes,uint256)",
        false,
    ),
    (
        "batchRedeemWinningTickets((address,address,uint256,uint256,uint256,bytes32,bytes)[],bytes[],uint256[])",
        false,
    ),
    // RoundsManager
    ("initializeRound()", false),
    // BondingManager
    ("transcoder(uint256,uint256)", false),
    ("bond(uint256,address)", false),
    ("bondWithHint(uint256,address,address,address,address,address)", false),
    ("unbond(uint256)", false),
    ("unbondWithHint(uint256,address,address)", false),
    ("rebond(uint256)", false),
    ("rebondWithHint(uint256,address,address)", false),
    ("rebondFromUnbonded(address,uint256)", false),
    ("rebondFromUnbondedWithHint(address,uint256,address,address)", false),
    ("withdrawStake(uint256)", false),
    ("withdrawFees(address,uint256)", false),
    ("claimEarnings(uint256)", false),
    ("reward()", false),
    ("rewardWithHint(address,address)", false),
    // LivepeerToken
    ("approve(address,uint256)", false),
    // ServiceRegistry
    ("setServiceURI(string)", false),
    // Poll, LivepeerGovernor
    ("vote(uint256)", false),
    ("castVote(uint256,uint8)", false),
    ("castVoteWithReason(uint256,uint8,string)", false),
    // Faucet of test networks
    ("request()", false),
    ("transferBond(address,uint256,address,address,address,address)", false),
];

/// A call of a contract, as a transaction of type 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EthereumTransaction {
    /// The chain that it is good for, and no other.
    pub chain_id: u64,
    /// How many transactions of the account were before it.
    pub nonce: u64,
    /// Wei per gas for whoever makes the block.
    pub max_priority_fee_per_gas: u128,
    /// Wei per gas at most, the base fee included.
    pub max_fee_per_gas: u128,
    /// Gas at most.
    pub gas_limit: u64,
    /// The contract.
    pub to: Address,
    /// Ether that goes along.
    pub value: Wei,
    /// Selector and arguments.
    pub data: Vec<u8>,
}

impl EthereumTransaction {
    /// What the curve signs, if this is a call that is signed.
    pub fn digest(&self) -> Result<B256, Refusal> {
        self.check()?;
        Ok(self.hash())
    }

    /// The same of what this account signs: also a transaction that does nothing but use up its number.
    pub fn digest_of(&self, account: Address) -> Result<B256, Refusal> {
        let is_nothing = self.to == account && self.value.is_zero() && self.data.is_empty();
        if is_nothing { Ok(self.hash()) } else { self.digest() }
    }

    fn hash(&self) -> B256 {
        keccak256(typed_list(&self.fields()))
    }

    /// As it is sent, with the signature over [`Self::digest`].
    pub fn raw(&self, signature: &Signature) -> Vec<u8> {
        let [rs @ .., v] = signature.as_bytes();
        let (r, s) = rs.split_at(32);
        let mut fields = self.fields();
        (*v == 28).encode(&mut fields);
        for number in [r, s] {
            be_bytes(U256::from_be_slice(number)).as_slice().encode(&mut fields);
        }
        typed_list(&fields)
    }

    /// In the order of EIP-1559, with an empty access list.
    fn fields(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128 + self.data.len());
        self.chain_id.encode(&mut out);
        self.nonce.encode(&mut out);
        self.max_priority_fee_per_gas.encode(&mut out);
        self.max_fee_per_gas.encode(&mut out);
        self.gas_limit.encode(&mut out);
        self.to.as_slice().encode(&mut out);
        be_bytes(self.value.0).as_slice().encode(&mut out);
        self.data.as_slice().encode(&mut out);
        out.push(EMPTY_LIST_CODE);
        out
    }

    fn check(&self) -> Result<(), Refusal> {
        if self.data.len() > MAX_CALL_DATA_BYTES {
            return Err(Refusal::CallTooLarge(self.data.len()));
        }
        let call = self.data.get(..4).and_then(|selector| {
            CALLS.iter().find(|(call, _)| keccak256(call).get(..4) == Some(selector))
        });
        match call {
            None => Err(Refusal::UnknownCall),
            Some((_, false)) if !self.value.is_zero() => Err(Refusal::EtherAlong),
            Some(_) => Ok(()),
        }
    }
}

/// The type byte, then the fields as one list.
fn typed_list(fields: &[u8]) -> Vec<u8> {
    let mut out = vec![TYPE];
    Header { list: true, payload_length: fields.len() }.encode(&mut out);
    out.extend_from_slice(fields);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KeyError, LocalKey, TypedSigner};
    use std::sync::Arc;

    fn call(text: &str, value: u64) -> EthereumTransaction {
        EthereumTransaction {
            chain_id: 42_161,
            nonce: 9,
            max_priority_fee_per_gas: 1,
            max_fee_per_gas: 2_000_000_000,
            gas_limit: 400_000,
            to: Address::repeat_byte(7),
            value: Wei::from_u64(value),
            data: keccak256(text)[..4].to_vec(),
        }
    }

    #[test]
    fn the_calls_have_the_selectors_of_the_contracts() {
        // on-chain.md section 2.
        for (call, selector) in [
            ("fundDeposit()", "6caa736b"),
            ("fundDepositAndReserve(uint256,uint256)", "511f4073"),
            ("fundDepositAndReserveFor(address,uint256,uint256)", "989f789c"),
            ("unlock()", "a69df4b5"),
            ("cancelUnlock()", "c2c4c2c8"),
            ("withdraw()", "3ccfd60b"),
            (CALLS[7].0, "ec8b3cb6"),
            (CALLS[8].0, "d01b808e"),
            ("initializeRound()", "d4807fb2"),
            ("reward()", "228cb733"),
            ("rewardWithHint(address,address)", "81871056"),
            ("setServiceURI(string)", "5f11301b"),
        ] {
            assert!(CALLS.iter().any(|(known, _)| *known == call), "{call}");
            assert_eq!(hex::encode(&keccak256(call)[..4]), selector, "{call}");
        }
    }

    #[tokio::test]
    async fn only_known_calls_are_signed_and_a_refusal_costs_no_signature() {
        let signer = TypedSigner::new(Arc::new(LocalKey::random().unwrap()));
        let mut transfer = call("unlock()", 5);
        transfer.data.clear();
        let mut long = call("setServiceURI(string)", 0);
        long.data.resize(MAX_CALL_DATA_BYTES + 1, 0);
        for (bad, why) in [
            (transfer, Refusal::UnknownCall),
            (call("transfer(address,uint256)", 0), Refusal::UnknownCall),
            (call("unlock()", 1), Refusal::EtherAlong),
            (long.clone(), Refusal::CallTooLarge(long.data.len())),
        ] {
            let refused = signer.sign_ethereum_transaction(&bad).await;
            assert_eq!(refused, Err(KeyError::Refused(why)));
        }
        assert_eq!(signer.operations(), 0);
        let nothing = EthereumTransaction {
            to: signer.address(),
            value: Wei::ZERO,
            data: Vec::new(),
            ..call("unlock()", 0)
        };
        signer.sign_ethereum_transaction(&nothing).await.unwrap();
        for (bad, why) in [
            (EthereumTransaction { to: Address::ZERO, ..nothing.clone() }, Refusal::UnknownCall),
            (
                EthereumTransaction { value: Wei::from_u64(1), ..nothing.clone() },
                Refusal::UnknownCall,
            ),
            (EthereumTransaction { data: vec![0], ..nothing.clone() }, Refusal::UnknownCall),
        ] {
            let refused = signer.sign_ethereum_transaction(&bad).await;
            assert_eq!(refused, Err(KeyError::Refused(why)), "{bad:?}");
        }
        let good = call("fundDeposit()", 5);
        let signature = signer.sign_ethereum_transaction(&good).await.unwrap();
        assert_eq!(signature.recover(&good.digest().unwrap()), Ok(signer.address()));
    }

    #[test]
    fn every_field_is_signed() {
        let base = call("fundDeposit()", 5);
        let digest = base.digest().unwrap();
        let changed = [
            EthereumTransaction { chain_id: 1, ..base.clone() },
            EthereumTransaction { nonce: 10, ..base.clone() },
            EthereumTransaction { max_priority_fee_per_gas: 2, ..base.clone() },
            EthereumTransaction { max_fee_per_gas: 3, ..base.clone() },
            EthereumTransaction { gas_limit: 4, ..base.clone() },
            EthereumTransaction { to: Address::ZERO, ..base.clone() },
            EthereumTransaction { value: Wei::ZERO, ..base.clone() },
            EthereumTransaction { data: call("fundReserve()", 0).data, ..base.clone() },
        ];
        for other in changed {
            assert_ne!(other.digest().unwrap(), digest, "{other:?}");
        }
    }

    #[test]
    fn raw_is_the_type_and_one_list_to_its_end() {
        let signature = Signature::from_bytes([0x1c; 65]);
        let raw = call("unlock()", 0).raw(&signature);
        assert_eq!(raw[0], TYPE);
        let mut rest = &raw[1..];
        let head = Header::decode(&mut rest).unwrap();
        assert!(head.list);
        assert_eq!(head.payload_length, rest.len());
        // The last item is s, 32 bytes of 0x1c after their head.
        assert_eq!(rest[rest.len() - 33..], [&[0xa0_u8][..], &[0x1c; 32]].concat());
    }
}
