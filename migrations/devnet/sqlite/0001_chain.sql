-- The devnet's state, one table for each map of it. Amounts of wei and hashes are text (decimal,
-- 0x hex), since SQLite has no 256-bit integers; rounds and blocks fit its 64 bits.

CREATE TABLE chain (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    chain_id TEXT NOT NULL,
    round_length INTEGER NOT NULL CHECK (round_length > 0),
    l1_block INTEGER NOT NULL,
    last_initialized_round INTEGER NOT NULL,
    transactions INTEGER NOT NULL,
    funded_wei TEXT NOT NULL,
    paid_wei TEXT NOT NULL,
    withdrawn_wei TEXT NOT NULL
) STRICT;

CREATE TABLE rounds (
    round INTEGER PRIMARY KEY,
    l1_block_hash TEXT NOT NULL
) STRICT;

CREATE TABLE senders (
    address TEXT PRIMARY KEY,
    deposit_wei TEXT NOT NULL,
    withdraw_round INTEGER NOT NULL,
    reserve_wei TEXT NOT NULL,
    claimed_round INTEGER NOT NULL,
    claimed_wei TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE claims (
    holder TEXT NOT NULL,
    claimant TEXT NOT NULL,
    round INTEGER NOT NULL,
    amount_wei TEXT NOT NULL,
    PRIMARY KEY (holder, claimant)
) STRICT, WITHOUT ROWID;

CREATE TABLE orchestrators (
    address TEXT PRIMARY KEY,
    service_uri TEXT NOT NULL,
    activation_round INTEGER NOT NULL,
    deactivation_round INTEGER NOT NULL,
    registered INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE accounts (
    address TEXT PRIMARY KEY,
    nonce INTEGER NOT NULL,
    earned_wei TEXT NOT NULL,
    withdrawn_wei TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- A used ticket is never overwritten: a second redemption of one hash is an error here too.
CREATE TABLE redemptions (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    ticket_hash TEXT NOT NULL UNIQUE,
    tx_hash TEXT NOT NULL UNIQUE,
    l1_block INTEGER NOT NULL,
    round INTEGER NOT NULL,
    sender TEXT NOT NULL,
    recipient TEXT NOT NULL,
    face_value_wei TEXT NOT NULL,
    paid_from_deposit_wei TEXT NOT NULL,
    paid_from_reserve_wei TEXT NOT NULL
) STRICT;
