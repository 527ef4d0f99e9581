//! The network's contracts on anvil: put there, found again, and moved.

use crate::rpc::{Call, Rpc, RpcError};
use penstock_domain::{Address, U256, Wei, keccak256};
use std::path::Path;

/// Which of anvil's rich accounts does what: two processes never count one account's transactions.
const DEPLOYER: usize = 0;
const MINER: usize = 1;
const GIVER: usize = 2;
/// Ether for gas, as much as is given, in wei; and one LPT, in its smallest unit.
const ONE: u64 = 1_000_000_000_000_000_000;

/// Contracts on a chain.
#[derive(Debug, Clone)]
pub struct Network {
    rpc: Rpc,
    /// What makes blocks and tokens.
    owner: Address,
    /// What finds the other contracts (`--eth-controller` of the roles).
    controller: Address,
}

impl Network {
    /// Puts new contracts on the chain. `code` is the creation code of `Network.sol` in hexadecimal digits;
    /// `round_length` is in L1 blocks.
    ///
    /// # Errors
    ///
    /// anvil is not there, or the code is none.
    pub async fn deploy(rpc: Rpc, code: &str, round_length: u64) -> Result<Self, RpcError> {
        let from = rpc.rich(DEPLOYER).await?;
        let code = format!("0x{}{round_length:064x}", code.trim());
        let owner = rpc.deploy(from, &code).await?;
        Self::at(rpc, owner).await
    }

    /// Those that were put there before, by the contract that made them; `None` if the chain does not know it.
    ///
    /// # Errors
    ///
    /// anvil is not there.
    pub async fn find(rpc: Rpc, owner: Address) -> Result<Option<Self>, RpcError> {
        if !rpc.has_code(owner).await? {
            return Ok(None);
        }
        Self::at(rpc, owner).await.map(Some)
    }

    async fn at(rpc: Rpc, owner: Address) -> Result<Self, RpcError> {
        let controller = one(rpc.view(owner, "controller()", &[]).await?, "controller()")?;
        Ok(Self { rpc, owner, controller: Address::from_word(controller.into()) })
    }

    /// The contract that made the others.
    pub fn owner(&self) -> Address {
        self.owner
    }

    /// What finds the other contracts.
    pub fn controller(&self) -> Address {
        self.controller
    }

    /// Mines L1 blocks; rounds that begin are initialised.
    ///
    /// # Errors
    ///
    /// anvil is not there.
    pub async fn mine_blocks(&self, blocks: u64) -> Result<(), RpcError> {
        self.command(MINER, "mineBlocks(uint256)", &[U256::from(blocks)]).await
    }

    /// Gives an account ether for its transactions, if it has less than one.
    ///
    /// # Errors
    ///
    /// anvil is not there.
    pub async fn ensure_ether(&self, account: Address) -> Result<(), RpcError> {
        if self.rpc.balance_wei(account).await? >= U256::from(ONE) {
            return Ok(());
        }
        let params = serde_json::json!([account.to_string(), format!("{ONE:#x}")]);
        self.rpc.ask("anvil_setBalance", params).await.map(drop)
    }

    /// Gives an account one LPT to stake, if it has less.
    ///
    /// # Errors
    ///
    /// anvil is not there.
    pub async fn ensure_stake(&self, account: Address) -> Result<(), RpcError> {
        let token = self.contract("LivepeerToken").await?;
        let word: U256 = account.into_word().into();
        let has = one(self.rpc.view(token, "balanceOf(address)", &[word]).await?, "balanceOf")?;
        if has >= U256::from(ONE) || self.is_in_pool(account).await? {
            return Ok(());
        }
        self.command(GIVER, "mintTokens(address,uint256)", &[word, U256::from(ONE)]).await
    }

    /// Gives a sender a deposit and a reserve, unless it has a deposit.
    ///
    /// # Errors
    ///
    /// anvil is not there.
    pub async fn ensure_funds(&self, sender: Address, each: Wei) -> Result<(), RpcError> {
        let broker = self.contract("TicketBroker").await?;
        let word: U256 = sender.into_word().into();
        let info = self.rpc.view(broker, "getSenderInfo(address)", &[word]).await?;
        if info.first().is_some_and(|deposit| !deposit.is_zero()) {
            return Ok(());
        }
        let call = Call {
            from: self.rpc.rich(GIVER).await?,
            to: broker,
            signature: "fundDepositAndReserveFor(address,uint256,uint256)",
            words: &[word, each.0, each.0],
            value_wei: each.0.saturating_add(each.0),
        };
        self.rpc.call(&call).await
    }

    /// Whether an orchestrator has joined the pool.
    ///
    /// # Errors
    ///
    /// anvil is not there.
    pub async fn is_in_pool(&self, account: Address) -> Result<bool, RpcError> {
        self.says_of(account, "isRegisteredTranscoder(address)").await
    }

    /// Begins the next round, unless the orchestrator is active in this one already.
    ///
    /// # Errors
    ///
    /// anvil is not there.
    pub async fn ensure_active(&self, account: Address) -> Result<(), RpcError> {
        if self.says_of(account, "isActiveTranscoder(address)").await? {
            return Ok(());
        }
        self.command(GIVER, "nextRound(bool)", &[U256::from(1)]).await
    }

    async fn says_of(&self, account: Address, signature: &str) -> Result<bool, RpcError> {
        let bonding = self.contract("BondingManager").await?;
        let word = account.into_word().into();
        let said = self.rpc.view(bonding, signature, &[word]).await?;
        Ok(!one(said, signature)?.is_zero())
    }

    async fn contract(&self, name: &str) -> Result<Address, RpcError> {
        let id = U256::from_be_bytes(keccak256(name).0);
        let asked = "getContract(bytes32)";
        let word = one(self.rpc.view(self.controller, asked, &[id]).await?, asked)?;
        Ok(Address::from_word(word.into()))
    }

    async fn command(&self, who: usize, signature: &str, words: &[U256]) -> Result<(), RpcError> {
        let from = self.rpc.rich(who).await?;
        let call = Call { from, to: self.owner, signature, words, value_wei: U256::ZERO };
        self.rpc.call(&call).await
    }
}

fn one(words: Vec<U256>, asked: &str) -> Result<U256, RpcError> {
    words.into_iter().next().ok_or_else(|| RpcError::new(asked, "an answer without a word"))
}

/// The creation code in a file.
pub(crate) fn read_code(path: &Path) -> std::io::Result<String> {
    let code = std::fs::read_to_string(path)?;
    let code = code.trim();
    if code.is_empty() || !code.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let reason = "holds something else than hexadecimal digits";
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, reason));
    }
    Ok(code.to_owned())
}
