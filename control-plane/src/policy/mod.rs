//! Policy: what may be asked for, how a request is scored, and the rules that
//! decide.

pub mod engine;
pub mod facts;
pub mod justification;
mod nesting;
pub mod obligations;
mod rules;
pub mod scope;
pub mod score;
pub mod validation;
pub mod verdict;
