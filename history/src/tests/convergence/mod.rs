//! What replicas that merge come to.

mod planted;
mod random;
mod replicas;
mod world;
