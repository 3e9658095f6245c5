//! The checks are checked: each fault, planted, is caught, and histories of a
//! board that behaves are never refuted.

mod convergence;
mod planted;
mod random;
mod scale;
mod sessions;
mod story;
mod watchers;
mod world;
