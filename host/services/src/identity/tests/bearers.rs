//! Tokens of issuers.
