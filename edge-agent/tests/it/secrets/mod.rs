//! Where secrets are after they were used: looked for in the memory of the
//! real processes and in everything that is written anywhere.

mod edge_memory;
mod memory;
mod search;
mod system;
mod whole_run;
